"""A weight average served with its own members: its reward, their disagreement, in one answer."""

import hashlib

import numpy as np
import pytest

from plaudit import RewardClient, checkpoint
from plaudit.checkpoint import CheckpointError
from service.settings import Settings
from service.sources import sources

ITEMS = [{"prompt": "Why?", "response": f"Because of reason {i}."} for i in range(4)]
LONG = {"prompt": "Why?", "response": "Because. " * 20}


@pytest.fixture
def file(tmp_path, members, average):
    """``file()``: three members around their average, which takes ``max_tokens``."""

    def write(declared="", **changes):
        average(tmp_path / "warm", members, **changes)
        path = tmp_path / "ens.yaml"
        path.write_text(f"members: {[str(one) for one in members]}\ncentre: warm\n{declared}")
        return path

    return write


async def post(client, route, **body):
    response = await client.post(route, json={"items": ITEMS, **body})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("mean", lambda centre, r: centre),
        ("uwo", lambda centre, r: centre - 0.25 * r.var(1, ddof=1)),
        ("lcb", lambda centre, r: centre - 0.25 * r.std(1, ddof=1)),
    ],
)
async def test_the_reward_is_the_centre_s_less_the_members_disagreement(
    serve, file, members, aggregate, expected
):
    async with serve(models=[file()]) as client:
        answer = await post(client, "/ensemble_score", aggregate=aggregate, coefficient=0.25)
        own = [await post(client, "/score", model=m.name) for m in members]
        warm = await post(client, "/score", model="warm")
    rewards = np.array([one["rewards"] for one in own]).T
    assert answer["rewards"] == pytest.approx(expected(np.array(warm["rewards"]), rewards))
    assert answer["mean"] == pytest.approx(rewards.mean(1))
    assert answer["variance"] == pytest.approx(rewards.var(1, ddof=1))
    assert answer["mean"] != pytest.approx(warm["rewards"], abs=0.01)
    raw = np.array([[item["score"] for item in one["items"]] for one in own]).T
    assert np.array(answer["member_scores"]) == pytest.approx(raw)
    assert [one["name"] for one in answer["members"]] == [one.name for one in members]
    assert answer["centre"] == {
        "name": "warm",
        "revision": warm["revision"],
        "scores": pytest.approx([item["score"] for item in warm["items"]]),
        "rewards": pytest.approx(warm["rewards"]),
    }
    assert [item["reward"] for item in answer["items"]] == answer["rewards"]


async def test_the_centre_is_part_of_the_revision_and_nothing_changes_without_one(
    serve, tmp_path, file, members, ensemble_file
):
    plain = tmp_path / "plain.yaml"
    ensemble_file.rename(plain)
    fourth = tmp_path / "fourth.yaml"
    fourth.write_text(f"members: {[*map(str, members), 'warm']}\n")
    async with serve(models=[plain, file(), fourth]) as client:
        listed = {m["name"]: m for m in (await client.get("/models")).json()["models"]}
        found = await post(client, "/ensemble_score", ensemble="plain")
    # The digest as it was before there were centres: lengths and revisions of the members.
    digest = hashlib.sha256()
    for member in members:
        revision = checkpoint.read(member)[1].encode()
        digest.update(len(revision).to_bytes(8, "little") + revision)
    assert found["revision"] == listed["plain"]["revision"] == f"sha256:{digest.hexdigest()}"
    assert len({listed[name]["revision"] for name in ("plain", "ens", "fourth")}) == 3
    assert "centre" not in found
    assert "centre" not in listed["plain"]
    assert listed["ens"]["centre"] == "warm"
    assert listed["ens"]["members"] == [member.name for member in members]


async def test_an_item_that_the_centre_cannot_score_has_no_reward(serve, file):
    async with serve(models=[file("min_members: 1", max_tokens=100)]) as client:
        answer = await post(client, "/ensemble_score", items=[ITEMS[0], LONG])
    assert answer["items"][1].keys() == {"error"}
    assert answer["items"][1]["error"]["type"] == "too-long"
    for values in (answer["rewards"], answer["mean"], answer["member_scores"]):
        assert values[1] is None
        assert values[0] is not None
    assert answer["centre"]["scores"][1] is answer["centre"]["rewards"][1] is None
    assert answer["degraded"] is False


@pytest.mark.parametrize("kind", ["wco", "median"])
async def test_an_aggregate_that_would_not_read_the_centre_is_refused(serve, file, kind):
    async with serve(models=[file()]) as client:
        response = await client.post("/ensemble_score", json={"items": ITEMS, "aggregate": kind})
    assert response.status_code == 422
    assert response.json()["detail"].startswith(f"ens: {kind} would not read the centre")


@pytest.mark.parametrize("kind", ["wco", "median"])
def test_a_file_whose_aggregate_would_not_read_its_centre_is_refused(tmp_path, kind):
    path = tmp_path / "ens.yaml"
    path.write_text(f"members: [a, b]\naggregate: {kind}\ncentre: warm\n")
    with pytest.raises(CheckpointError, match=f"ens.yaml: {kind} would not read the centre"):
        sources(Settings(models=[path], _cli_parse_args=False))


async def test_a_centre_on_a_scale_of_its_own_is_refused(
    serve, tmp_path, tokenizer, save_plain, members
):
    save_plain(tmp_path / "warm", tokenizer, seed=7)
    path = tmp_path / "ens.yaml"
    path.write_text(f"members: [{members[0]}, {members[1]}]\ncentre: warm\n")
    with pytest.raises(CheckpointError, match=r"\['warm'\] not calibrated"):
        async with serve(models=[path]):
            pytest.fail("it was served")


async def test_one_of_the_members_may_be_the_centre(serve, tmp_path, members):
    path = tmp_path / "ens.yaml"
    path.write_text(f"members: {[str(one) for one in members]}\ncentre: {members[1]}\n")
    async with serve(models=[path]) as client:
        answer = await post(client, "/ensemble_score")
        own = await post(client, "/score", model=members[1].name)
    assert answer["rewards"] == own["rewards"]
    assert len(answer["member_scores"][0]) == 3


async def test_a_config_names_a_centre(serve, tmp_path, members, average):
    average(tmp_path / "warm", members[:2])
    path = tmp_path / "models.yaml"
    path.write_text(
        f"models: {{a: {members[0]}, b: {members[1]}, w: warm}}\n"
        "ensembles: {both: {members: [a, b], aggregate: uwo, centre: w, min_members: 2}}\n"
    )
    async with serve(config=path) as client:
        answer = await post(client, "/ensemble_score")
    assert (answer["centre"]["name"], answer["aggregate"]) == ("w", "uwo")


async def test_members_and_their_average_go_through_shared_blocks_in_one_forward(
    serve, tmp_path, tiny_checkpoint, retrained_top, average, metrics
):
    """One of the two blocks is shared: three models cost 3 - 1/2 - 1/2 = 2 of one."""
    top = retrained_top(tmp_path / "top", tiny_checkpoint)
    average(tmp_path / "warm", [tiny_checkpoint, top])
    path = tmp_path / "ens.yaml"
    path.write_text(f"members: [{tiny_checkpoint}, {top}]\ncentre: warm\n")
    async with serve(models=[path], prefix_cache_megabytes=0) as client:
        answer = await post(client, "/ensemble_score", items=ITEMS[:1])
        apart = [
            await post(client, "/score", model=name, items=ITEMS[1:2])
            for name in (tiny_checkpoint.name, "top", "warm")
        ]
        value = metrics.registry.get_sample_value
        forwards = value("plaudit_batch_items_count")
        computed = value("plaudit_tokens_total", {"kind": "computed"})
    tokens = answer["items"][0]["tokens"]
    assert answer["usage"] == {"tokens": 3 * tokens, "computed_tokens": 3 * tokens, "cached": 0}
    assert forwards == 1 + 3
    assert computed == 2 * tokens + sum(one["usage"]["tokens"] for one in apart)


def test_the_client_joins_the_centre_over_batches(listen, file):
    with listen(models=[file()]) as url, RewardClient(url, batch_items=3) as client:
        found = client.ensemble_score(ITEMS)
        warm = client.score(ITEMS, model="warm")
        listed = client.models()
    assert (found.centre.name, found.centre.revision) == ("warm", warm.revision)
    assert found.rewards == found.centre.rewards == warm.rewards
    assert found.centre.scores == [item.score for item in warm.items]
    assert listed[-1].centre == "warm"
