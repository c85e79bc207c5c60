"""int8 weights as they are served: said where the dtype is said, and cached apart."""

import pytest

from plaudit.reward_model import RewardModel
from service.cache import key_of
from service.engines.torch_engine import TorchEngine
from service.metrics import Metrics
from service.settings import SettingsError, load

ITEMS = {"items": [{"token_ids": [3 + i, 9, 12, 40 + i]} for i in range(5)]}


async def scores(client) -> list[float]:
    return [item["score"] for item in (await client.post("/score", json=ITEMS)).json()["items"]]


async def test_scores_are_those_of_the_quantised_model_and_the_dtype_says_so(
    serve, tiny_checkpoint
):
    model = RewardModel.load(tiny_checkpoint, "cpu", "int8")
    expected = model.score_all([item["token_ids"] for item in ITEMS["items"]])
    async with serve(models=[tiny_checkpoint], dtype="int8") as client:
        assert await scores(client) == pytest.approx(list(expected), abs=2e-2)
        (listed,) = (await client.get("/models")).json()["models"]
        assert listed["dtype"] == "int8"
        assert 'dtype="int8"' in (await client.get("/metrics")).text


async def test_an_ensemble_of_int8_is_deterministic_on_request(serve, ensemble_file):
    settings = {"dtype": "int8", "deterministic": True, "cache_megabytes": 0}
    async with serve(models=[ensemble_file], **settings) as client:

        async def of_members(items) -> list[list[float]]:
            answer = await client.post("/ensemble_score", json={"items": items})
            return answer.json()["member_scores"]

        together = await of_members(ITEMS["items"])
        apart = [await of_members([item]) for item in ITEMS["items"]]
    assert [one[0] for one in apart] == together


def test_a_score_of_int8_never_answers_for_one_of_bf16():
    seen = set()
    for dtype in ("float32", "bfloat16", "int8"):
        engine = TorchEngine(load(["x", "--dtype", dtype, "--device", "cpu"]), Metrics())
        seen.add(key_of("sha256:" + "0" * 64, engine.numerics, [1, 2, 3]))
    assert len(seen) == 3


def test_int8_of_vllm_is_refused():
    with pytest.raises(SettingsError, match="--dtype int8 is torch's: leave out --engine vllm"):
        load(["x", "--dtype", "int8", "--engine", "vllm"])
