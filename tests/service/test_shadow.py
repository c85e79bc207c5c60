"""A new checkpoint is compared with the old one on what callers ask, before it takes its place."""

import asyncio
import gc
import json
import shutil
import weakref

import msgspec
import numpy as np
import pytest
from both_ports import Both
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from plaudit import checkpoint
from plaudit.wire import Item
from service import shadow as shadow_module
from service import swap_command
from service.audit import By
from service.items import Cut
from service.member_scores import Scored
from service.shadow import Shadow
from service.swap_limits import unmet
from service.swap_report import Agreement, Compared, spearman
from service.swap_request import Limits, ShadowPlan, SwapRequest
from training.service_process import free_port

KEY = {"Authorization": "Bearer operator"}
MARK = "mallard-in-the-text"
GROUPS = [
    {"prompt": f"Why {i}? {MARK}", "responses": [f"Because of {i * j}." for j in range(1, 5)]}
    for i in range(1, 4)
]


async def post(both, **body):
    return await both.ops.post("/admin/swap", json=body, headers=KEY, timeout=120)


async def compare(both, name="new", **body):
    plan = {"share": 1.0, "items": 12, "seconds": 60} | body.pop("shadow", {})
    answer = await post(both, model="m0", checkpoint=name, shadow=plan, **body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "comparing"
    return answer.json()


async def latest(both):
    return (await both.ops.get("/admin/swaps", headers=KEY)).json()["swaps"][0]


async def ended(both):
    async with asyncio.timeout(60):
        while (found := await latest(both))["state"] in ("loading", "comparing"):
            await asyncio.sleep(0.01)
    return found


async def score(both, groups=GROUPS, **fields):
    answer = await both.client.post("/score", json={"groups": groups, **fields}, timeout=120)
    assert answer.status_code == 200, answer.text
    return answer.json()


def kind(answer):
    return answer.json()["type"].partition("#")[2]


async def test_the_report_says_what_scipy_says_of_both_models_alone(ports, metrics, members):
    """Callers are answered by the old one throughout, from the cache too."""
    alone = []
    for member in members[:2]:
        async with Both(type(metrics)(), models=[member], admin_port=free_port()) as both:
            alone.append(await score(both))
    async with ports(members[0]) as both:
        await score(both)
        await compare(both)
        answer = await score(both)
        found = await ended(both)
        after = await score(both)
        listed = await both.ops.get("/admin/swaps", headers=KEY)
    assert answer["revision"] == after["revision"] == alone[0]["revision"]
    assert answer["rewards"] == after["rewards"]
    assert (found["state"], found["tried"]) == ("compared", {"m0": 12})
    old, new = (np.array(one["rewards"]) for one in alone)
    report = found["reports"]["m0"]
    taus = [stats.kendalltau(a, b).statistic for a, b in zip(*by_group(old, new), strict=True)]
    expected = {
        "compared": 12, "skipped": 0, "groups": 3, "pairs": 18,
        "rank_correlation": stats.spearmanr(old, new).statistic,
        "kendall": np.mean(taus),
        "changed_preferences": np.mean([(1 - tau) / 2 for tau in taus]),
        "old_mean": old.mean(), "new_mean": new.mean(), "mean_shift": new.mean() - old.mean(),
        "old_std": old.std(), "new_std": new.std(), "std_ratio": new.std() / old.std(),
        "old_tokens": alone[0]["usage"]["tokens"], "new_tokens": alone[1]["usage"]["tokens"],
    }  # fmt: skip
    largest = report.pop("largest")
    assert report.pop("failed") == {}
    assert report == pytest.approx(expected, abs=1e-4)
    apart = sorted(abs(new - old), reverse=True)[:10]
    assert [abs(one["new"] - one["old"]) for one in largest] == pytest.approx(apart, abs=1e-4)
    assert MARK not in listed.text


def by_group(*rows):
    return [row.reshape(3, 4) for row in rows]


async def test_what_keeps_the_limits_is_switched_by_itself(
    ports, metrics, members, copy_with, root
):
    copy_with(members[0], root / "same", max_tokens=900)
    limits = {"rank_correlation": 0.99, "kendall": 0.99, "changed_preferences": 0.01,
              "mean_shift": 0.01, "std_ratio": 1.01}  # fmt: skip
    async with ports(members[0]) as both:
        begun = await compare(both, "same", require=limits)
        before = await score(both)
        found = await ended(both)
        after = await score(both)
    assert found["state"] == "switched"
    assert found["swaps"] == begun["swaps"]
    assert [one["revision"] for one in (before, after)] == [
        found["swaps"][0]["from"], checkpoint.read(root / "same")[1]
    ]  # fmt: skip
    assert after["rewards"] == pytest.approx(before["rewards"], abs=1e-5)
    assert metrics.registry.get_sample_value("plaudit_swaps_total", {"result": "switched"}) == 1


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(0.0, "is inf, at most 2"), (None, "is not to be told of so few items"), (0.25, "is 4, at")],
)
def test_a_spread_that_is_lost_is_no_question_of_too_few_items(ratio, said):
    compared = Compared()
    for reward in (0.0, 1.0):
        compared.add(0, reward, reward, 1, 1)
    report = msgspec.structs.replace(compared.report(), std_ratio=ratio)
    [why] = unmet(Limits(std_ratio=2), 2, report)
    assert said in why


async def test_what_does_not_is_refused_with_each_limit_and_freed(ports, metrics, members):
    limits = {"rank_correlation": 1, "changed_preferences": 0, "mean_shift": 0, "std_ratio": 1}
    async with ports(members[0]) as both:
        await compare(both, require=limits)
        new = weakref.ref(both.app.state.scorer.shadow.pairs["m0"].new)
        await score(both)
        found = await ended(both)
        assert found["state"] == "refused"
        for name in limits:
            assert name in found["reason"]
        assert (await score(both))["revision"] == found["swaps"][0]["from"]
        await freed(both, new)
        assert len(both.engine._seats) == 1
    assert metrics.registry.get_sample_value("plaudit_swaps_total", {"result": "refused"}) == 1


async def freed(both, member):
    async with asyncio.timeout(60):
        while member() is not None or both.engine._freeing:
            gc.collect()
            await asyncio.sleep(0.01)


async def test_nothing_is_switched_on_too_few_items(ports, members):
    async with ports(members[0]) as both:
        await compare(both, shadow={"items": 1000, "seconds": 0.05}, require={})
        found = await ended(both)
    assert found["state"] == "refused"
    assert "0 items were compared, 100 are required" in found["reason"]


async def test_items_that_the_new_one_cannot_score_speak_against_it(
    ports, members, copy_with, root
):
    """Here they are longer than it takes; the callers have their scores."""
    copy_with(members[0], root / "short", max_tokens=58)
    long = [{"prompt": "Why?", "responses": ["Because.", "B" * 100]}]
    async with ports(members[0]) as both:
        await compare(both, "short", shadow={"items": 2}, require={"items": 2})
        assert None not in (await score(both, long))["rewards"]
        found = await ended(both)
        assert found["reports"]["m0"]["failed"] == {"too-long": 1}
        assert "could not score 1 of 2 items (too-long)" in found["reason"]
        await compare(both, "short", shadow={"items": 4}, require={"items": 4, "failed": 0.5})
        await score(both, long)
        await score(both, long)
        assert (await ended(both))["state"] == "switched"


async def test_a_comparison_can_be_cancelled_and_lets_no_other_begin(ports, members, caplog):
    caplog.set_level("INFO", "plaudit")
    async with ports(members[0]) as both:
        nothing = await both.ops.delete("/admin/swap", headers=KEY)
        assert (nothing.status_code, kind(nothing)) == (404, "no-swap")
        await compare(both)
        new = weakref.ref(both.app.state.scorer.shadow.pairs["m0"].new)
        second = await post(both, model="m0", checkpoint="newer")
        assert (second.status_code, kind(second)) == (409, "swap-in-progress")
        unkeyed = await both.ops.delete("/admin/swap")
        assert (unkeyed.status_code, kind(unkeyed)) == (401, "unauthenticated")
        cancelled = await both.ops.delete("/admin/swap", headers=KEY)
        assert cancelled.json()["state"] == (await latest(both))["state"] == "cancelled"
        assert (await score(both))["revision"] == checkpoint.read(members[0])[1]
        await freed(both, new)
        [end] = [record.fields for record in caplog.records if record.getMessage() == "swap"]
        assert (end["outcome"], end["cancelled_by"]) == ("cancelled", "ops")
        assert (await post(both, model="m0", checkpoint="newer")).status_code == 200


async def test_what_is_cancelled_before_the_first_step_ends_and_lets_another_begin(ports, members):
    """Of a task that is cancelled so early nothing runs, not even what would clean up."""
    async with ports(members[0]) as both:
        [swaps] = [close.__self__ for close in both.app.state.before_engine]
        asked = SwapRequest("m0", "new", shadow=ShadowPlan())
        begun = await swaps.ask(asked, By("ops", "127.0.0.1", "run-7"))
        new = weakref.ref(swaps._comparing.pairs[0][1])
        cancelled = await swaps.cancel(By("other", "127.0.0.1", "run-8"))
        assert (begun.state, cancelled.state) == ("comparing", "cancelled")
        assert both.app.state.scorer.shadow is None
        assert (await post(both, model="m0", checkpoint="newer")).status_code == 200
        await freed(both, new)


async def test_a_server_that_stops_ends_the_comparison(ports, members, caplog):
    caplog.set_level("INFO", "plaudit")
    async with ports(members[0]) as both:
        await compare(both)
    [end] = [record.fields for record in caplog.records if record.getMessage() == "swap"]
    assert (end["result"], end["cancelled_by"]) == ("cancelled", None)


async def test_the_share_is_of_requests_and_what_waits_is_bounded(ports, members, monkeypatch):
    """One more request is taken where nothing waits, however large it is."""
    monkeypatch.setattr(shadow_module, "MOST_WAITING", 50)
    async with ports(members[0]) as both:
        member = both.registry.members["m0"]
        items = [Item(prompt="Why?", response=f"{i}") for i in range(4)]
        seen = [[shadow_module.Seen(b"", 3, 2, 1)] * 4]
        outcomes = [[Scored(0.5, cached=False)] * 4]
        draws = iter([0.5, 0.1, 0.29, 0.3, 0.2])
        plan = ShadowPlan(share=0.3)
        shadow = Shadow([(member, member)], plan, "", {}, draw=lambda: next(draws))
        for _ in range(5):
            shadow.saw([member], items, Cut("error"), seen, outcomes)
        assert (shadow._jobs.qsize(), shadow._waiting) == (2, 40)
        assert shadow.pairs["m0"].compared.skipped == 4


async def test_a_long_request_is_compared_in_small_forwards(ports, members, monkeypatch):
    monkeypatch.setattr(shadow_module, "TURN_TOKENS", 100)
    async with ports(members[0], cache_megabytes=0) as both:
        await compare(both)
        new = seat_of_new(both)
        sizes, real = [], new.joint.compute
        monkeypatch.setattr(
            new.joint, "compute",
            lambda asked: sizes.append(sum(len(one.ids) for one in asked)) or real(asked),
        )  # fmt: skip
        await score(both)
        assert (await ended(both))["state"] == "compared"
    assert len(sizes) > 5
    assert max(sizes) <= 100


def seat_of_new(both):
    return both.engine._seats[both.app.state.scorer.shadow.pairs["m0"].new.submit]


async def test_a_new_model_that_does_not_compute_harms_nobody(ports, members, monkeypatch):
    """Its forwards fail; callers have their scores, and the server stays ready."""

    def broken(asked):
        raise RuntimeError("no such kernel")

    async with ports(members[0], cache_megabytes=0) as both:
        await compare(both, require={"failed": 0.5})
        monkeypatch.setattr(seat_of_new(both).joint, "compute", broken)
        assert None not in (await score(both))["rewards"]
        found = await ended(both)
        assert (await both.client.get("/readyz")).status_code == 200
    assert found["state"] == "refused"
    assert found["reports"]["m0"]["failed"] == {"engine-fault": 12}
    assert found["reports"]["m0"]["rank_correlation"] is None


FEW = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=12)


@given(FEW)
def test_ranks_and_orders_are_those_of_scipy_with_ties_too(pairs):
    old, new = (np.array(row, float) for row in zip(*pairs, strict=True))
    found = Agreement(old, new, np.zeros(len(pairs), int))
    for own, theirs in (
        (spearman(old, new), stats.spearmanr), (found.kendall, stats.kendalltau)
    ):  # fmt: skip
        if own is None:
            assert len(set(old)) == 1 or len(set(new)) == 1
        else:
            assert own == pytest.approx(theirs(old, new).statistic)


@given(st.permutations(range(8)))
def test_groups_are_compared_each_for_itself(order):
    """However their items are mixed; a group of one says nothing."""
    rows = [(0, 1.0, 3.0), (0, 2.0, 2.0), (1, 1.0, 1.0), (1, 2.0, 2.0), (1, 2.0, 5.0),
            (2, 7.0, 7.0), (3, 1.0, 4.0), (3, 2.0, 4.0)]  # fmt: skip
    groups, old, new = (np.array(row) for row in zip(*(rows[i] for i in order), strict=True))
    found = Agreement(old.astype(float), new.astype(float), groups)
    assert (found.groups, found.pairs) == (3, 4)
    assert found.changed_share == 0.5
    within = stats.kendalltau([1, 2, 2], [1, 2, 5]).statistic
    assert found.kendall == pytest.approx(np.mean([-1, within]))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"model": "m0"}, "either model and checkpoint"),
        ({"model": "m0", "checkpoint": "new", "swaps": []}, "swaps"),
        ({"model": "m0", "checkpoint": "new", "require": {}}, "shadow"),
        ({"model": "m0", "checkpoint": "new", "shadow": {"share": 0}}, "shadow.share"),
        ({"model": "m0", "checkpoint": "new", "shadow": {"items": 5}, "require": {"items": 9}},
         "more items"),
        ({"swaps": [{"model": "m0", "checkpoint": "new"}] * 2}, "twice"),
        ({"model": "m0", "checkpoint": "new", "shadow": {"seconds": 1e9}}, "shadow.seconds"),
    ],
)  # fmt: skip
async def test_a_request_that_contradicts_itself_is_refused(ports, members, body, said):
    async with ports(members[0]) as both:
        answer = await post(both, **body)
        assert (answer.status_code, kind(answer)) == (422, "malformed")
        assert said in answer.json()["detail"]


async def command(*argv):
    return await asyncio.to_thread(swap_command.main, [str(one) for one in argv])


async def test_the_command_waits_for_the_report_and_prints_it(ports, members, monkeypatch, capsys):
    monkeypatch.setenv("PLAUDIT_ADMIN_KEY", "operator")
    monkeypatch.setattr(swap_command, "LOOK_SECONDS", 0.01)
    async with ports(members[0]) as both:
        url = f"http://127.0.0.1:{both.settings.admin_port}"

        async def asked(*flags):
            task = asyncio.create_task(command(url, "m0", "new", "--shadow", "share=1,items=12",
                                               *flags))  # fmt: skip
            while both.app.state.scorer.shadow is None and not task.done():
                await asyncio.sleep(0.01)
            await score(both)
            return await task, capsys.readouterr()

        status, said = await asked("--require", "rank_correlation=1,items=2")
        assert status == 1
        assert "compares 100% of the requests until 12 items" in said.err
        assert "rank correlation" in said.out
        assert "refused: m0: rank_correlation is" in said.out
        status, said = await asked("--json")
        assert status == 0
        assert json.loads(said.out)["reports"]["m0"]["compared"] == 12
        assert await command(url, "m0", "new", "--shadow", "shares=1") == 2
        assert "write NAME=NUMBER" in capsys.readouterr().err
        assert await command(url) == 2
        assert "name a MODEL" in capsys.readouterr().err
        assert await command(url, "--cancel") == 1
        assert "No swap is under way" in capsys.readouterr().err


async def test_what_is_served_is_listed_with_where_it_came_from(
    ports, members, root, ensemble_file, monkeypatch, capsys
):
    monkeypatch.setenv("PLAUDIT_ADMIN_KEY", "operator")
    async with ports(ensemble_file, root / "new") as both:
        first = {one["name"]: one for one in await models(both)}
        assert (await post(both, model="m0", checkpoint="newer")).status_code == 200
        then = {one["name"]: one for one in await models(both)}
        assert (await both.ops.get("/admin/models")).status_code == 401
        assert await command(f"http://127.0.0.1:{both.settings.admin_port}", "--list") == 0
    assert [first[name]["checkpoint"] for name in ("m0", "new", "ens")] == [None, "new", None]
    assert then["m0"]["checkpoint"] == "newer"
    assert then["m0"]["revision"] == checkpoint.read(root / "newer")[1]
    assert then["m0"]["since"] >= first["m0"]["since"] == then["m1"]["since"]
    assert then["ens"]["since"] == then["m0"]["since"]
    assert then["ens"]["members"] == ["m0", "m1", "m2"]
    assert {one["state"] for one in then.values()} == {"serving"}
    assert f"m0: {then['m0']['kind']} newer {then['m0']['revision']}" in capsys.readouterr().out


async def models(both):
    return (await both.ops.get("/admin/models", headers=KEY)).json()["models"]


@pytest.fixture
def two_generations(members, average, root):
    """``a-N``, ``b-N`` and their average ``warm-N``, of two generations; the first three paths."""
    for number, sources in ((1, members[:2]), (2, members[1:])):
        for name, source in zip("ab", sources, strict=True):
            shutil.copytree(source, root / f"{name}-{number}")
        average(root / f"warm-{number}", [root / f"a-{number}", root / f"b-{number}"])
    return [root / f"{name}-1" for name in ("a", "b", "warm")]


@pytest.mark.parametrize("named", ["together", "file"])
async def test_an_average_is_swapped_with_its_members_or_not_at_all(
    ports, two_generations, tmp_path, named
):
    file = tmp_path / "ensemble.yaml"
    a, b, warm = two_generations
    file.write_text(f"members: [{a}, {b}]\ncentre: {warm}\n")
    asked = {"together": [a, b, warm], "file": [file]}[named]
    steps = [{"model": f"{name}-1", "checkpoint": f"{name}-2"} for name in ("a", "b", "warm")]
    async with ports(*asked, ensemble=named == "together", cache_megabytes=0) as both:
        before = await ensemble_score(both)
        for some in (steps[:1], steps[:2], steps[2:]):
            refused = await post(both, swaps=some)
            assert (refused.status_code, kind(refused)) == (422, "bad-checkpoint")
            assert "average" in refused.json()["detail"]
        assert await ensemble_score(both) == before
        stop, answers = asyncio.Event(), []

        async def ask():
            while not stop.is_set():
                answers.append(await ensemble_score(both))

        asking = asyncio.create_task(ask())
        answer = await post(both, swaps=steps)
        assert answer.status_code == 200, answer.text
        after = await ensemble_score(both)
        stop.set()
        await asking
    new = [one["to"] for one in answer.json()["swaps"]]
    assert [one["revision"] for one in after["members"]] == new[:2]
    assert after["centre"]["revision"] == new[2]
    whole = {one["revision"]: one for one in (before, after)}
    assert len(whole) == 2
    for one in answers:
        of = whole[one["revision"]]
        assert one["members"] == of["members"]
        assert one["centre"]["revision"] == of["centre"]["revision"]
        assert one["rewards"] == pytest.approx(of["rewards"], abs=1e-4)


async def ensemble_score(both):
    body = {"groups": GROUPS}
    return (await both.client.post("/ensemble_score", json=body, timeout=120)).json()


async def test_of_several_either_all_are_swapped_or_none(ports, ensemble_file, root):
    async with ports(ensemble_file) as both:
        before = (await both.client.get("/models")).json()
        steps = [{"model": "m0", "checkpoint": "newer"}, {"model": "m1", "checkpoint": "gone"}]
        assert kind(await post(both, swaps=steps)) == "unknown-checkpoint"
        (root / "gone").mkdir()
        assert kind(await post(both, swaps=steps)) == "bad-checkpoint"
        assert (await both.client.get("/models")).json() == before
        async with asyncio.timeout(60):
            while len(both.engine._seats) > 3 or both.engine._freeing:
                gc.collect()
                await asyncio.sleep(0.01)
