"""An item asked again is answered from memory, and nothing else is ever taken for it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.wire import Item, Message
from service.items import Cut, Seen
from service.repeats import Repeats, digests, under

texts = st.text(max_size=4)
turns = st.lists(st.builds(Message, st.sampled_from(["user", "assistant"]), texts), max_size=2)
items = st.builds(
    Item,
    prompt=st.none() | texts | turns,
    response=st.none() | texts,
    messages=st.none() | turns,
    text=st.none() | texts,
    token_ids=st.none() | st.lists(st.integers(-(2**70), 2**70), max_size=3),
)
cuts = st.builds(Cut, st.sampled_from(["error", "left", "right"]), st.none() | st.integers(1, 12))


@given(st.lists(st.tuples(st.sampled_from(["r", "r "]), items, cuts), unique_by=repr))
def test_all_that_decides_the_token_ids_is_told_apart(asked):
    hashed = digests([item for _, item, _ in asked])
    found = [
        under(revision, cut, [digest])[0]
        for (revision, _, cut), digest in zip(asked, hashed, strict=True)
    ]
    assert len(set(found)) == len(asked)


async def test_a_token_id_of_any_size_is_an_error_of_its_item_alone(serve, tiny_checkpoint):
    wild = [{"token_ids": [token]} for token in (2**64, -(2**70))]
    async with serve(models=[tiny_checkpoint]) as client:
        answer = await client.post("/score", json={"items": [*wild, {"text": "fine"}]})
    first, second, third = answer.json()["items"]
    assert first["error"]["type"] == second["error"]["type"] == "token-out-of-range"
    assert third["score"]


async def test_a_repeat_is_looked_up_once(serve, tiny_checkpoint, metrics):
    body = {"items": [{"text": "same"}] * 8}
    async with serve(models=[tiny_checkpoint]) as client:
        for _ in range(2):
            await client.post("/score", json=body)
    value = metrics.registry.get_sample_value
    found = [
        value("plaudit_cache_lookups_total", {"tier": "l1", "result": result})
        for result in ("hit", "miss")
    ]
    assert found == [1, 1]


def test_what_was_asked_longest_ago_is_forgotten():
    a, b, c = (Seen(bytes([i]), i, 0, None) for i in range(3))
    repeats = Repeats(entries=2)
    repeats.put({b"a": a, b"b": b})
    repeats.get([b"a"])
    repeats.put({b"c": c})
    assert repeats.get([b"a", b"b", b"c"]) == [a, None, c]


@pytest.mark.parametrize("truncation", ["left", "right"])
async def test_a_repeat_is_answered_alike_without_the_tokenizer(
    serve, tiny_checkpoint, metrics, truncation
):
    def tokenized() -> float | None:
        labels = {"stage": "tokenize"}
        return metrics.registry.get_sample_value("plaudit_stage_duration_seconds_count", labels)

    def cut() -> float | None:
        return metrics.registry.get_sample_value("plaudit_truncated_total", {"side": truncation})

    body = {
        "items": [{"token_ids": [5] * 600}, {"prompt": "Hi", "response": "Hello"}, {"text": ""}],
        "truncation": truncation,
    }
    async with serve(models=[tiny_checkpoint]) as client:
        first = (await client.post("/score", json=body)).json()
        second = (await client.post("/score", json={**body, "items": body["items"][:2]})).json()
        assert tokenized() == 1
        third = (await client.post("/score", json={**body, "items": body["items"][1:]})).json()
        assert tokenized() == 2  # an item in error is looked at again
    assert cut() == 2
    assert second["usage"]["cached"] == 2
    for item in first["items"][:2]:
        item["cached"] = True
    assert second["items"] == first["items"][:2]
    assert third["items"] == first["items"][1:]


async def test_a_repeat_under_another_truncation_is_its_own_item(serve, tiny_checkpoint):
    body = {"items": [{"token_ids": list(range(3, 253)) * 3}]}
    async with serve(models=[tiny_checkpoint]) as client:
        left, right, error = [
            (await client.post("/score", json={**body, "truncation": side})).json()
            for side in ("left", "right", "error")
        ]
    assert left["rewards"] != right["rewards"]
    assert error["items"][0]["error"]["type"] == "too-long"
