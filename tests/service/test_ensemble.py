"""POST /ensemble_score: hand arithmetic over what POST /score says of each member."""

import numpy as np
import pytest

ITEMS = [{"prompt": "Why?", "response": f"Because of reason {i}."} for i in range(6)]


@pytest.fixture
def answers(serve, ensemble_file, members):
    """The ensemble's answer to ``body``, and each member's own answer to ITEMS."""

    async def ask(**body):
        async with serve(models=[ensemble_file]) as client:
            own = [
                (await client.post("/score", json={"model": m.name, "items": ITEMS})).json()
                for m in members
            ]
            answer = (await client.post("/ensemble_score", json={"items": ITEMS, **body})).json()
            return answer, own

    return ask


async def test_mean_and_variance_are_over_calibrated_rewards_with_ddof_1(answers, members):
    answer, own = await answers()
    rewards = np.array([a["rewards"] for a in own]).T
    assert answer["mean"] == pytest.approx(rewards.mean(1))
    assert answer["variance"] == pytest.approx(rewards.var(1, ddof=1))
    assert answer["rewards"] == answer["mean"]
    assert [m["name"] for m in answer["members"]] == [m.name for m in members]
    raw = np.array([[item["score"] for item in a["items"]] for a in own]).T
    assert np.array(answer["member_scores"]) == pytest.approx(raw)


@pytest.mark.parametrize(
    ("aggregate", "expected"),
    [
        ("median", lambda r: np.median(r, axis=1)),
        ("wco", lambda r: r.min(1)),
        ("lcb", lambda r: r.mean(1) - 0.25 * r.std(1, ddof=1)),
        ("uwo", lambda r: r.mean(1) - 0.25 * r.var(1, ddof=1)),
    ],
)
async def test_aggregates(answers, aggregate, expected):
    answer, own = await answers(aggregate=aggregate, coefficient=0.25)
    rewards = np.array([a["rewards"] for a in own]).T
    assert answer["rewards"] == pytest.approx(expected(rewards))
    assert (answer["aggregate"], answer["coefficient"]) == (aggregate, 0.25)


async def test_another_aggregate_never_recomputes(serve, ensemble_file):
    async with serve(models=[ensemble_file]) as client:
        first = (await client.post("/ensemble_score", json={"items": ITEMS})).json()
        body = {"items": ITEMS, "aggregate": "uwo", "coefficient": 2}
        second = (await client.post("/ensemble_score", json=body)).json()
    assert first["usage"]["computed_tokens"] == first["usage"]["tokens"] > 0
    assert second["usage"]["computed_tokens"] == 0
    assert second["usage"]["cached"] == len(ITEMS)


async def test_what_is_cached_is_counted_by_item_and_each_lookup_once(
    serve, ensemble_file, members, metrics
):
    def lookups(result: str) -> float:
        labels = {"tier": "l1", "result": result}
        return metrics.registry.get_sample_value("plaudit_cache_lookups_total", labels) or 0

    async def ask(client, path, items, **body):
        answer = (await client.post(path, json={"items": items, **body})).json()
        return answer["usage"]["cached"], lookups("hit"), lookups("miss")

    async with serve(models=[ensemble_file]) as client:
        # 3 members are asked for 3 items each: 9 misses.
        assert await ask(client, "/ensemble_score", ITEMS[:3]) == (0, 0, 9)
        # Half of 6 items are known to all three: 9 hits, and 9 misses for the others.
        assert await ask(client, "/ensemble_score", ITEMS) == (3, 9, 18)
        # All 6 by each of three: 18 hits more.
        assert await ask(client, "/ensemble_score", ITEMS) == (6, 27, 18)
        # One member alone knows those too, and one item is new: 6 hits and a miss more.
        new = {"prompt": "Why?", "response": "No reason."}
        one = {"model": members[0].name}
        assert await ask(client, "/score", [*ITEMS, new], **one) == (6, 33, 19)
        # Of that item one member's score is there, which is no cached item: 1 hit, 2 misses more.
        assert await ask(client, "/ensemble_score", [new]) == (0, 34, 21)
        # An item twice in a request is one lookup, and two items that came from the cache.
        assert await ask(client, "/score", [new, new], **one) == (2, 35, 21)


async def test_an_item_that_fails_has_no_reward_and_the_others_keep_theirs(serve, ensemble_file):
    items = [ITEMS[0], {"prompt": "Why?", "response": ""}, ITEMS[1]]
    async with serve(models=[ensemble_file]) as client:
        answer = (await client.post("/ensemble_score", json={"items": items})).json()
        whole = (await client.post("/ensemble_score", json={"items": ITEMS})).json()
    for field in ("rewards", "mean", "variance", "member_scores"):
        assert answer[field][1] is None
        assert answer[field][::2] == whole[field][:2]
    assert answer["items"][1]["error"]["type"] == "empty"


async def test_an_empty_list_is_answered_with_empty_lists(serve, ensemble_file):
    async with serve(models=[ensemble_file]) as client:
        response = await client.post("/ensemble_score", json={"items": []})
    assert response.status_code == 200
    assert response.json()["rewards"] == response.json()["member_scores"] == []


async def test_bad_requests_are_problems(serve, ensemble_file):
    async with serve(models=[ensemble_file]) as client:
        unknown = await client.post("/ensemble_score", json={"items": [], "ensemble": "nope"})
        negative = await client.post("/ensemble_score", json={"items": [], "coefficient": -1})
        aggregate = await client.post("/ensemble_score", json={"items": [], "aggregate": "max"})
    assert (unknown.status_code, negative.status_code, aggregate.status_code) == (404, 422, 422)


async def test_one_member_has_no_variance(serve, tmp_path, tiny_checkpoint):
    path = tmp_path / "alone.yaml"
    path.write_text(f"members: [{tiny_checkpoint}]\naggregate: uwo\n")
    async with serve(models=[path]) as client:
        answer = (await client.post("/ensemble_score", json={"items": ITEMS})).json()
    assert answer["variance"] == [None] * len(ITEMS)
    assert answer["rewards"] == answer["mean"]


async def test_members_that_share_blocks_answer_as_if_served_apart(
    serve, tmp_path, tiny_checkpoint, retrained_top
):
    paths = [tiny_checkpoint, retrained_top(tmp_path / "top", tiny_checkpoint)]
    apart = []
    for path in paths:
        async with serve(models=[path]) as client:
            apart.append((await client.post("/score", json={"items": ITEMS})).json()["rewards"])
    file = tmp_path / "pair.yaml"
    file.write_text(f"members: {[str(path) for path in paths]}\n")
    async with serve(models=[file]) as client:
        one = (await client.post("/score", json={"items": ITEMS[:2], "model": "top"})).json()
        both = (await client.post("/ensemble_score", json={"items": ITEMS})).json()
    assert one["rewards"] == pytest.approx(apart[1][:2], abs=1e-5)
    assert both["mean"] == pytest.approx(np.mean(apart, axis=0), abs=1e-5)
    assert both["variance"] == pytest.approx(np.var(apart, axis=0, ddof=1), abs=1e-5)
    assert apart[0] != pytest.approx(apart[1], abs=1e-2)


async def test_who_asks_for_a_model_among_several_hears_of_the_ensembles(serve, ensemble_file):
    async with serve(models=[ensemble_file]) as client:
        unnamed = await client.post("/score", json={"items": ITEMS})
        by_its_name = await client.post("/score", json={"items": ITEMS, "model": "ens"})
    for answer in (unnamed, by_its_name):
        assert answer.status_code == 404
        assert answer.json()["detail"].endswith("; POST /ensemble_score asks the ensembles ['ens']")
