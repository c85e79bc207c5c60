"""A checkpoint in the place of another, while the service answers."""

import asyncio
import gc
import itertools
import json
import logging
import shutil
import threading
import weakref
from collections import defaultdict
from dataclasses import replace

import pytest
from both_ports import Both

from plaudit import checkpoint
from plaudit.reward_model import RewardModel
from service import free_memory, scorer, swap_command
from service.compat import exchange
from service.routes import ACTS
from service.settings import SettingsError, load
from training.service_process import free_port

KEY = {"Authorization": "Bearer operator"}
ITEMS = [{"prompt": f"Why {i}?", "response": f"Because of {i}."} for i in range(6)]


async def swap(both, model, name, headers=KEY):
    body = {"model": model, "checkpoint": name}
    return await both.ops.post("/admin/swap", json=body, headers=headers, timeout=120)


async def score(both, items=ITEMS, **fields):
    return await both.client.post("/score", json={"items": items, **fields}, timeout=120)


async def alone(metrics, directory, requests):
    """What a server of that one checkpoint answers: its revision and each request's rewards."""
    async with Both(type(metrics)(), models=[directory], admin_port=free_port()) as both:
        answers = [(await score(both, items)).json() for items in requests]
        return answers[0]["revision"], [answer["rewards"] for answer in answers]


def moved(answer):
    """The only model that was swapped."""
    [one] = answer.json()["swaps"]
    return one


def kind(answer):
    return answer.json()["type"].partition("#")[2]


class Gate:
    """Holds whoever calls ``name`` of ``target``: as it stands, requests that have looked up their
    model, before anything of them is encoded."""

    def __init__(self, monkeypatch, target=scorer, name="encode"):
        self.reached, self._open = threading.Event(), threading.Event()
        real = getattr(target, name)

        def held(*args):
            self.reached.set()
            assert self._open.wait(120)
            return real(*args)

        monkeypatch.setattr(target, name, held)

    def open(self):
        self._open.set()

    async def wait_reached(self):
        assert await asyncio.to_thread(self.reached.wait, 120)


async def test_under_load_every_answer_is_whole_and_of_the_revision_it_names(
    ports, metrics, members
):
    """Four callers ask while models are swapped three times; the oracle is each model alone."""
    requests = [ITEMS[i : i + 3] for i in range(3)]
    expected = dict([await alone(metrics, member, requests) for member in members])
    async with ports(members[0], cache_megabytes=0) as both:
        ended = asyncio.Event()
        answers = []

        async def ask(number):
            while not ended.is_set():
                answers.append((number, await score(both, requests[number % 3])))

        async with asyncio.TaskGroup() as group:
            for number in range(4):
                group.create_task(ask(number))
            for name in ("new", "newer", "new"):
                enough = len(answers) + 4
                while len(answers) < enough:
                    await asyncio.sleep(0.001)
                assert (await swap(both, "m0", name)).status_code == 200
            enough = len(answers) + 8
            while len(answers) < enough:
                await asyncio.sleep(0.001)
            ended.set()
    assert {answer.status_code for _, answer in answers} == {200}
    seen = set()
    for number, answer in answers:
        body = answer.json()
        seen.add(body["revision"])
        assert body["rewards"] == pytest.approx(expected[body["revision"]][number % 3], abs=1e-5)
    assert len(seen) == 3


async def test_what_was_asked_before_is_answered_by_the_old_model_which_is_freed_then(
    ports, metrics, members, monkeypatch
):
    own, [expected] = await alone(metrics, members[0], [ITEMS])
    async with ports(members[0]) as both:
        old = weakref.ref(only_seat(both).joint.members[0])
        gate = Gate(monkeypatch)
        asked = asyncio.create_task(score(both))
        await gate.wait_reached()
        swapped = moved(await swap(both, "m0", "new"))
        assert swapped["from"] == own != swapped["to"]
        gc.collect()
        assert old() is not None
        gate.open()
        answer = (await asked).json()
        assert answer["revision"] == own
        assert answer["rewards"] == pytest.approx(expected, abs=1e-5)
        # Nor are its scores taken for the new one's.
        assert metrics.registry.get_sample_value("plaudit_score_mean", {"model": "m0"}) is None
        assert (await score(both)).json()["revision"] == swapped["to"]
        assert metrics.registry.get_sample_value("plaudit_score_mean", {"model": "m0"}) is not None
        await freed(both, old)


async def test_an_ensemble_that_was_asked_before_keeps_its_old_member(
    ports, metrics, ensemble_file, monkeypatch
):
    async with ports(ensemble_file, cache_megabytes=0) as both:
        # As many as the agreement of members needs to be said.
        items = [{"prompt": "Why?", "response": f"{i}"} for i in range(100)]
        body = {"ensemble": "ens", "items": items}
        before = (await both.client.post("/ensemble_score", json=body, timeout=120)).json()
        agreement = metrics.rewards.agreements["ens"]
        gate = Gate(monkeypatch)
        asked = asyncio.create_task(both.client.post("/ensemble_score", json=body, timeout=120))
        await gate.wait_reached()
        assert (await swap(both, "m0", "newer")).status_code == 200
        gate.open()
        answer = (await asked).json()
        assert answer["revision"] == before["revision"]
        assert revisions(answer) == revisions(before)
        for row, expected in zip(answer["member_scores"], before["member_scores"], strict=True):
            assert row == pytest.approx(expected, abs=1e-5)
        assert metrics.rewards.agreements["ens"] is not agreement
        assert metrics.rewards.agreements["ens"].disagreement() is None
        await both.client.post("/ensemble_score", json=body, timeout=120)
        assert metrics.rewards.agreements["ens"].disagreement() is not None


@pytest.mark.parametrize("field", ["model", "ensemble"])
async def test_another_servers_route_names_the_model_that_it_looked_up(
    ports, members, ensemble_file, monkeypatch, field
):
    """Between the look-up and the score such a route takes turns with others."""
    model = members[0] if field == "model" else ensemble_file
    async with ports(model) as both:
        name = "m0" if field == "model" else "ens"
        listed = (await both.client.get("/models")).json()["models"]
        [own] = [one["revision"] for one in listed if one["name"] == name]
        with_one_bos = exchange.with_one_bos

        def switch(*args):
            renamed = replace(both.registry.members["m0"], revision="x")
            served = both.registry.with_members([renamed])
            both.registry.serve(served)
            return with_one_bos(*args)

        monkeypatch.setattr(exchange, "with_one_bos", switch)
        body = {"query": ["Why? Because."], "prompts": ["Why?"]}
        answer = await both.client.post("/get_reward", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.headers["x-plaudit-revision"] == own


async def freed(both, old):
    """Waits until nothing of the member is left."""
    async with asyncio.timeout(60):
        while old() is not None or both.engine._freeing:
            gc.collect()
            await asyncio.sleep(0.01)


def only_seat(both):
    [seat] = both.engine._seats.values()
    return seat


async def test_the_answer_the_list_and_the_metrics_name_the_new_revision(
    ports, metrics, members, caplog
):
    value = metrics.registry.get_sample_value
    async with ports(members[0]) as both:
        await score(both)
        [own] = (await both.client.get("/models")).json()["models"]
        before = metrics.rewards.streams["m0"]
        with caplog.at_level(logging.INFO, "plaudit"):
            answer = await swap(both, "m0", "new")
        [listed] = (await both.client.get("/models")).json()["models"]
        [shown] = (await both.ops.get("/ops/models")).json()["models"]
    said = answer.json()
    _, new = checkpoint.read(members[1])
    assert said["seconds"] > 0
    assert said["state"] == "switched"
    steps = {"model": "m0", "checkpoint": "new", "from": own["revision"], "to": new}
    assert said["swaps"] == [steps]
    assert listed["revision"] == shown["revision"] == new
    labels = {"model": "m0", "dtype": "float32", "engine": "torch"}
    assert value("plaudit_model_info", labels | {"revision": new}) == 1
    assert value("plaudit_model_info", labels | {"revision": own["revision"]}) is None
    assert value("plaudit_swaps_total", {"result": "switched"}) == 1
    assert value("plaudit_score_bucket", {"model": "m0", "le": "+Inf"}) == 0
    assert metrics.rewards.streams["m0"] is not before
    instance = answer.headers["x-request-id"]
    about = {"logger": "plaudit.audit", "id": said["id"], "who": "ops"}
    about |= {"from": "127.0.0.1", "instance": instance}
    [first] = [record.fields for record in caplog.records if record.getMessage() == "swap-asked"]
    assert first == {**about, "outcome": "accepted", "swaps": [steps | {"from": None, "to": None}]}
    [last] = [record.fields for record in caplog.records if record.getMessage() == "swap"]
    ended = {"outcome": "switched", "result": "switched", "seconds": said["seconds"]}
    assert last == {**about, "swaps": [steps], **ended}
    assert "operator" not in caplog.text + json.dumps([first, last])


async def test_series_of_rewards_are_those_of_what_is_served_and_of_what_was_until_now(
    ports, metrics, members
):
    async with ports(*members[:2], ensemble=True) as both:
        served = [await asked(both)]
        for name in ("new", "newer"):
            assert (await swap(both, "m0", name)).status_code == 200
            served.append(await asked(both))
    shown = rewarded(metrics)
    assert shown["m0"] == {found["m0"] for found in served[1:]}
    assert shown["ensemble"] == {found["ensemble"] for found in served[1:]}
    assert shown["m1"] == {served[0]["m1"]}


async def asked(both):
    """Everything was asked once; the revision of each."""
    answers = [
        await score(both, model="m0"),
        await score(both, model="m1"),
        await both.client.post("/ensemble_score", json={"items": ITEMS}, timeout=120),
    ]
    assert [answer.status_code for answer in answers] == [200] * 3
    listed = (await both.client.get("/models")).json()["models"]
    return {one["name"]: one["revision"] for one in listed}


def rewarded(metrics):
    """Of each name, those that have a series of rewards."""
    found = defaultdict(set)
    for family in metrics.registry.collect():
        for sample in family.samples:
            if sample.name == "plaudit_rewards_total":
                found[sample.labels["model"]].add(sample.labels["revision"])
    return found


async def test_canaries_sing_for_the_new_model_alone(ports, metrics, members, copy_with, root):
    """The old one's distance from its probes is nothing of the new one's, which has none here."""
    copy_with(members[1], root / "silent")
    value = metrics.registry.get_sample_value
    async with ports(members[0], canary_seconds=0.02) as both:
        async with asyncio.timeout(60):
            while value("plaudit_canary_score_drift", {"model": "m0"}) is None:
                await asyncio.sleep(0.01)
        assert (await swap(both, "m0", "silent")).status_code == 200
        bird = both.app.state.canary._birds["m0"]
        async with asyncio.timeout(60):
            while not bird._newest:
                await asyncio.sleep(0.01)
        assert bird._member.revision == checkpoint.read(root / "silent")[1]
        assert value("plaudit_canary_score_drift", {"model": "m0"}) is None
        assert value("plaudit_canary_score_tolerance", {"model": "m0"}) is None
        assert (await swap(both, "m0", "new")).status_code == 200
        async with asyncio.timeout(60):
            while value("plaudit_canary_score_drift", {"model": "m0"}) is None:
                await asyncio.sleep(0.01)
        assert value("plaudit_canary_score_drift", {"model": "m0"}) < 1e-3
        async with asyncio.timeout(60):  # canaries as quick as these are late now and then
            while (await both.client.get("/readyz")).status_code != 200:
                await asyncio.sleep(0.01)


async def test_a_client_that_is_pinned_hears_of_the_swap(ports, members):
    async with ports(members[0]) as both:
        own = (await score(both)).json()["revision"]
        assert (await score(both, revision=own)).status_code == 200
        new = moved(await swap(both, "m0", "new"))["to"]
        refused = await score(both, revision=own)
        assert (refused.status_code, kind(refused)) == (409, "revision-changed")
        assert refused.json()["revision"] == new
        assert (await score(both, revision=new)).json()["usage"]["cached"] == 0


async def test_an_ensemble_has_the_new_member_and_a_revision_of_its_own(
    ports, metrics, members, ensemble_file
):
    async def ask(both):
        body = {"ensemble": "ens", "items": ITEMS}
        return (await both.client.post("/ensemble_score", json=body, timeout=120)).json()

    async with ports(ensemble_file, cache_megabytes=0) as both:
        before = await ask(both)
        ended, answers = asyncio.Event(), []

        async def asking():
            while not ended.is_set():
                answers.append(await ask(both))

        task = asyncio.create_task(asking())
        swapped = moved(await swap(both, "m0", "newer"))
        after = await ask(both)
        ended.set()
        await task
    parts = {"m0": swapped["from"], "m1": None, "m2": None} | revisions(before)
    assert revisions(after) == parts | {"m0": swapped["to"]}
    assert after["revision"] != before["revision"]
    wholes = {before["revision"]: before, after["revision"]: after}
    for answer in answers:
        whole = wholes[answer["revision"]]
        assert revisions(answer) == revisions(whole)
        for row, expected in zip(answer["member_scores"], whole["member_scores"], strict=True):
            assert row == pytest.approx(expected, abs=1e-5)
    column = [row[0] for row in after["member_scores"]]
    assert column == pytest.approx([row[2] for row in after["member_scores"]], abs=1e-5)


def revisions(answer):
    return {member["name"]: member["revision"] for member in answer["members"]}


async def test_a_member_that_shared_blocks_leaves_the_others_theirs(
    ports, members, retrained_top, tmp_path
):
    """First the one whose trunk the others compute with, then the next; the last one stays."""
    for name in ("a", "b"):
        retrained_top(tmp_path / name, members[0])
    tops = [tmp_path / "a", tmp_path / "b"]
    async with ports(members[0], *tops) as both:
        [trunk] = both.engine.trunks
        assert len(trunk.members) == 3
        before = (await score(both, model="b")).json()["rewards"]
        for name in ("m0", "a"):
            old = weakref.ref(both.registry.members[name])
            assert (await swap(both, name, "new")).status_code == 200
            await freed(both, old)
        assert both.engine.trunks == []
        items = [{**item, "response": item["response"] + " "} for item in ITEMS]
        again = (await score(both, items, model="b")).json()
        assert None not in again["rewards"]
        assert (await score(both, model="b")).json()["rewards"] == before
        joint = next(
            seat.joint for submit, seat in both.engine._seats.items()
            if submit is both.registry.members["b"].submit
        )  # fmt: skip
        assert len({id(model) for model in joint.members}) == 1


def spoil_probes(directory):
    manifest, _ = checkpoint.read(directory)
    moved = [{**probe, "score": probe["score"] + 5} for probe in json_of(directory)["probes"]]
    text = json_of(directory) | {"probes": moved}
    assert manifest.probes
    (directory / "reward.json").write_text(json.dumps(text))


def json_of(directory):
    return json.loads((directory / "reward.json").read_text())


def spoil_weights(directory):
    [weights] = directory.glob("*.safetensors")
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)


def spoil_code(directory):
    (directory / "config.json").write_text(
        json.dumps(json.loads((directory / "config.json").read_text()) | {"auto_map": {"A": "b.C"}})
    )


def spoil_memory(directory):
    """Nothing of the checkpoint: it lies where the test looks for the container's limits."""
    for name, text in (
        ("memory.max", "100000"), ("memory.current", "90000"), ("memory.stat", "inactive_file 9"),
    ):  # fmt: skip
        (directory / name).write_text(text)


def spoil_tokenizer(directory):
    """Digests and scan know nothing of a tokenizer that cannot be read."""
    for name in ("reward.json", "tokenizer.json"):
        (directory / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "refusal"),
    [
        (shutil.rmtree, ("unknown-checkpoint", "nothing is named bad")),
        (spoil_code, ("bad-checkpoint", "auto_map")),
        (spoil_weights, ("bad-checkpoint", "digest")),
        (spoil_probes, ("bad-checkpoint", "probe")),
        (spoil_tokenizer, ("bad-checkpoint", "bad")),
        (spoil_memory, ("no-memory", "10.0 kB are left")),
    ],
)
async def test_a_bad_checkpoint_changes_nothing(ports, metrics, root, monkeypatch, spoil, refusal):
    expected, said = refusal
    shutil.copytree(root / "new", root / "bad")
    spoil(root / "bad")
    async with ports(root / "newer") as both:
        before = (await score(both)).json()
        monkeypatch.setattr(free_memory, "CGROUP", root / "bad")
        answer = await swap(both, "newer", "bad")
        assert kind(answer) == expected, answer.text
        assert said in answer.json()["detail"]
        assert answer.json()["remedy"]
        after = (await score(both)).json()
        assert (after["revision"], after["rewards"]) == (before["revision"], before["rewards"])
        assert len(both.engine._seats) == 1
        monkeypatch.undo()
        assert (await swap(both, "newer", "new")).status_code == 200  # nothing is left locked
    assert metrics.registry.get_sample_value("plaudit_swaps_total", {"result": expected}) == 1


async def test_a_member_that_its_ensemble_cannot_have_is_refused_and_freed(
    ports, ensemble_file, save_plain, tokenizer, root
):
    """A plain model has no calibration, so its rewards could not be averaged."""
    save_plain(root / "plain", tokenizer, seed=9)
    async with ports(ensemble_file) as both:
        seats = len(both.engine._seats)
        answer = await swap(both, "m0", "plain")
        assert (answer.status_code, kind(answer)) == (422, "bad-checkpoint")
        assert "not calibrated" in answer.json()["detail"]
        async with asyncio.timeout(60):
            while len(both.engine._seats) > seats or both.engine._freeing:
                gc.collect()
                await asyncio.sleep(0.01)
        assert (await score(both, model="m0")).status_code == 200


@pytest.mark.parametrize(
    "name",
    ["../m0", "..", ".", "", "/etc", "a/b", "new/", "new\n", ".hidden", "C:\\x", "a" * 129,
     "http://127.0.0.1:9/m", "new\x00", "ｎew"],
)  # fmt: skip
async def test_what_is_no_name_is_refused_before_anything_is_looked_at(ports, members, name):
    async with ports(members[0]) as both:
        answer = await swap(both, "m0", name)
        assert (answer.status_code, kind(answer)) == (422, "malformed")


async def test_a_link_that_leaves_the_model_root_is_refused(ports, members, root):
    (root / "out").symlink_to(members[1])
    (root / "up").symlink_to("..")
    (root / "self").symlink_to(".")
    (root / "round").symlink_to("round")
    (root / "file").write_text("")
    (root / "inside").symlink_to("new")
    async with ports(members[0]) as both:
        for name, expected in (
            ("out", "bad-checkpoint"), ("up", "bad-checkpoint"), ("self", "bad-checkpoint"),
            ("round", "unknown-checkpoint"), ("file", "unknown-checkpoint"),
        ):  # fmt: skip
            assert kind(await swap(both, "m0", name)) == expected, name
        assert (await swap(both, "m0", "inside")).status_code == 200


async def test_only_a_key_of_the_admin_port_swaps(ports, members):
    async with ports(members[0], api_keys="trainer:scores") as both:
        own = {"Authorization": "Bearer scores"}
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answer = await swap(both, "m0", "new", headers)
            assert (answer.status_code, kind(answer)) == (401, "unauthenticated")
        answer = await swap(both, "m0", "new", own)
        assert (answer.status_code, kind(answer)) == (403, "forbidden")
        for method, route in itertools.product(("GET", "POST", "DELETE"), ACTS):
            for headers, status in (({}, 401), (own, 403)):
                answer = await both.ops.request(method, route.path, headers=headers)
                assert answer.status_code == status, (method, route.path)
        body = {"model": "m0", "checkpoint": "new"}
        for headers in (KEY, own):
            on_main = await both.client.post("/admin/swap", json=body, headers=headers)
            assert on_main.status_code == 404
        for path in ("/livez", "/readyz", "/metrics", "/ops", "/ops/models"):
            assert (await both.ops.get(path)).status_code == 200
        listed = await both.client.get("/models", headers=own)
        assert listed.json()["models"][0]["revision"] == checkpoint.read(members[0])[1]


async def test_without_a_model_root_there_is_no_such_route(metrics, members):
    async with Both(metrics, models=[members[0]], admin_port=free_port()) as both:
        assert (await swap(both, "m0", "new")).status_code == 404


async def test_unknown_models_fields_and_bundles_are_named(ports, members, ensemble_file):
    async with ports(ensemble_file) as both:
        assert kind(await swap(both, "nobody", "new")) == "unknown-model"
        assert "['m0', 'm1', 'm2']" in (await swap(both, "ens", "new")).json()["detail"]
        body = {"model": "m0", "checkpoint": "new", "path": "/etc"}
        answer = await both.ops.post("/admin/swap", json=body, headers=KEY)
        assert (answer.status_code, kind(answer)) == (422, "malformed")


async def test_the_second_of_two_swaps_at_once_is_told_so(ports, members, monkeypatch):
    async with ports(members[0]) as both:
        gate = Gate(monkeypatch, RewardModel, "open")
        first = asyncio.create_task(swap(both, "m0", "new"))
        await gate.wait_reached()
        # Traffic is answered while a model is loaded: it has the engine's thread to itself.
        assert (await score(both)).status_code == 200
        second = await swap(both, "m0", "newer")
        gate.open()
        assert (second.status_code, kind(second)) == (409, "swap-in-progress")
        assert second.json()["retryable"]
        assert (await first).status_code == 200


async def test_what_is_cancelled_while_it_is_loaded_is_not_served(ports, members, monkeypatch):
    async with ports(members[0]) as both:
        gate = Gate(monkeypatch, RewardModel, "open")
        asked = asyncio.create_task(swap(both, "m0", "new"))
        await gate.wait_reached()
        cancelled = await both.ops.delete("/admin/swap", headers=KEY)
        gate.open()
        answer = await asked
        assert (cancelled.status_code, cancelled.json()["state"]) == (200, "loading")
        assert (answer.status_code, kind(answer)) == (409, "swap-cancelled")
        [listed] = (await both.ops.get("/admin/swaps", headers=KEY)).json()["swaps"]
        assert listed["state"] == "cancelled"
        assert (await score(both)).json()["revision"] == listed["swaps"][0]["from"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], "--model-root is of the admin port: add --admin-port 9090"),
        (["--admin-port", "9000"], "export PLAUDIT_ADMIN_KEYS"),
        (["--admin-port", "9000", "--admin-keys", " , "], "export PLAUDIT_ADMIN_KEYS"),
    ],
)
def test_a_model_root_without_its_port_or_key_is_refused_at_the_start(tmp_path, flags, said):
    with pytest.raises(SettingsError, match=said):
        load([str(tmp_path), "--model-root", str(tmp_path), *flags], {})


def test_a_model_root_that_is_not_there_is_refused_at_the_start(tmp_path):
    with pytest.raises(SettingsError, match="no such directory"):
        load([str(tmp_path), "--model-root", str(tmp_path / "none")], {})


async def command(*argv):
    return await asyncio.to_thread(swap_command.main, [str(one) for one in argv])


async def test_the_command_swaps_and_prints_problems_with_what_mends_them(
    ports, members, monkeypatch, capsys
):
    monkeypatch.setenv("PLAUDIT_ADMIN_KEY", "operator")
    async with ports(members[0]) as both:
        url = f"http://127.0.0.1:{both.settings.admin_port}"
        before = (await score(both)).json()["revision"]
        assert await command(url, "m0", "nothing") == 1
        said = capsys.readouterr().err
        assert "nothing is named nothing in the model root" in said
        assert "put it there, and send its name" in said
        assert await command(url, "m0", "new") == 0
        after = (await score(both)).json()["revision"]
        assert f"m0: {before} -> {after} in " in capsys.readouterr().out
        assert await command(f"{both.client.base_url}", "m0", "new") == 1
        assert "--model-root" in capsys.readouterr().err
        monkeypatch.setenv("PLAUDIT_ADMIN_KEY", "wrong")
        assert await command(url, "m0", "new") == 1
        assert "key" in capsys.readouterr().err
    assert await command(url, "m0", "new") == 2
    assert "name the admin port of a server that runs" in capsys.readouterr().err
    monkeypatch.delenv("PLAUDIT_ADMIN_KEY")
    assert await command(url, "m0", "new") == 2
    assert "export PLAUDIT_ADMIN_KEY" in capsys.readouterr().err
