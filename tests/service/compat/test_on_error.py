"""An item without a reward where a format has no room for its error: never a silent zero."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.joint_model import JointModel
from service.compat.on_error import PEERS, OnError, read
from service.settings import SettingsError, load

QUERIES = {"query": ["fine", "", "fine too"]}
ALONE = {"query": ["fine", "fine too"]}


async def rewards(client, body=QUERIES):
    response = await client.post("/get_reward", json=body)
    assert response.status_code == 200, response.text
    return response.json()["rewards"]


async def test_fail_is_a_4xx_that_names_the_item(serve, tiny_checkpoint, metrics):
    async with serve(models=[tiny_checkpoint]) as client:
        response = await client.post("/get_reward", json=QUERIES)
    assert response.status_code == 422
    assert response.json()["error"] == "item 1: empty: the text is empty"
    assert "retry-after" not in response.headers
    labels = {"route": "/get_reward", "type": "unscorable"}
    assert metrics.registry.get_sample_value("plaudit_errors_total", labels) == 1


@pytest.mark.parametrize(
    ("setting", "policy", "stands"), [("null", "null", None), ("floor:-3.5", "floor", -3.5)]
)
async def test_what_stands_in_is_counted_and_said_and_its_neighbours_are_as_alone(
    serve, tiny_checkpoint, metrics, setting, policy, stands
):
    async with serve(models=[tiny_checkpoint], compat_on_error=setting) as client:
        first, last = await rewards(client, ALONE)
        response = await client.post("/get_reward", json=QUERIES)
    answer = response.json()
    assert answer["rewards"] == [first, stands, last]
    assert answer["extra_logs"]["filled"] == [0.0, 1.0, 0.0]
    assert response.headers["x-plaudit-filled"] == "1"
    labels = {"peer": "openrlhf", "policy": policy, "type": "empty"}
    assert metrics.registry.get_sample_value("plaudit_compat_filled_total", labels) == 1


async def test_a_format_may_have_a_policy_of_its_own(serve, tiny_checkpoint):
    async with serve(models=[tiny_checkpoint], compat_on_error="floor:-1,slime=fail") as client:
        assert (await rewards(client))[1] == -1
        refused = await client.post("/slime", json={"prompt": "a", "response": ""})
    assert refused.status_code == 422


async def test_a_long_item_is_an_error_unless_it_may_be_cut(serve, tiny_checkpoint):
    long = {"query": ["x" * 600]}
    async with serve(models=[tiny_checkpoint]) as client:
        refused = await client.post("/get_reward", json=long)
    async with serve(models=[tiny_checkpoint], compat_truncation="left") as client:
        cut = (await client.post("/get_reward", json=long)).json()
        own = await client.post("/score", json={"items": [{"text": "x" * 512}]})
    assert refused.json()["error"] == "item 0: too-long: 600 tokens, the limit is 512"
    assert cut["extra_logs"]["truncated"] == [88.0]
    assert cut["rewards"] == own.json()["rewards"]


async def test_a_forward_that_fails_is_worth_a_retry(serve, tiny_checkpoint, monkeypatch):
    def fault(self, asked):
        raise MemoryError("of the device")

    async with serve(models=[tiny_checkpoint]) as client:
        monkeypatch.setattr(JointModel, "compute", fault)
        response = await client.post("/get_reward", json=ALONE)
        both = await client.post("/get_reward", json={"query": ["another", ""]})
    assert (response.status_code, response.json()["type"]) == (503, "capacity")
    assert response.headers["retry-after"]
    # A retry would meet the other item's error again.
    assert (both.status_code, both.json()["error"]) == (422, "item 1: empty: the text is empty")


@pytest.mark.parametrize("policy", ["floor:-5", "null"])
async def test_nothing_stands_in_for_what_a_retry_gets(
    serve, tiny_checkpoint, metrics, monkeypatch, policy
):
    def fault(self, asked):
        raise MemoryError("of the device")

    async with serve(models=[tiny_checkpoint], compat_on_error=policy) as client:
        with monkeypatch.context() as broken:
            broken.setattr(JointModel, "compute", fault)
            during = await client.post("/get_reward", json=QUERIES)
        first, filled, last = await rewards(client)
    assert (during.status_code, during.json()["type"]) == (503, "capacity")
    assert during.headers["retry-after"]
    assert filled == (None if policy == "null" else -5.0)
    assert isinstance(first, float)
    assert isinstance(last, float)
    labels = {"peer": "openrlhf", "policy": policy.partition(":")[0], "type": "capacity"}
    assert metrics.registry.get_sample_value("plaudit_compat_filled_total", labels) is None


@pytest.mark.parametrize(
    "text",
    ["", "zero", "floor", "floor:", "floor:nan", "floor:inf", "floor:-1e39", "null:1", "fail:0",
     "verl=fail",
     "slime=null,slime=fail", "slime=", "=fail"],
)  # fmt: skip
def test_a_policy_that_is_none_is_refused_at_the_start(text):
    with pytest.raises(SettingsError, match="--compat-on-error"):
        load(["x", "--compat-on-error", text])


FLOAT32_MAX = float(np.finfo(np.float32).max)


@given(st.floats(-FLOAT32_MAX, FLOAT32_MAX), st.sampled_from(PEERS))
def test_every_finite_floor_is_read_as_it_is_written(floor, peer):
    found = read(f"null,{peer}=floor:{floor!r}")
    assert found[peer] == OnError("floor", floor)
    assert all(found[other] == OnError("null") for other in PEERS if other != peer)
    assert np.isfinite(np.float32(found[peer].floor))
