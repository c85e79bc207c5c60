"""What the torch engine adds to its models: a memory of prefixes, and the deterministic mode."""

import asyncio
import threading

import numpy as np
import pytest
import torch

from plaudit.joint_model import JointModel
from plaudit.reward_model import RewardModel
from service.settings import SettingsError, load

PROMPT = [3 + i % 60 for i in range(40)]
GROUP = [[*PROMPT, 50 + i, 51, 52] for i in range(6)]


async def one_by_one(client) -> list[float]:
    answers = [await client.post("/score", json={"items": [{"token_ids": ids}]}) for ids in GROUP]
    return [answer.json()["items"][0]["score"] for answer in answers]


@pytest.mark.parametrize(("megabytes", "known"), [(1, 32), (0, 0)])
async def test_a_group_in_calls_of_its_own_pays_for_its_prompt_once(
    serve, tiny_checkpoint, metrics, megabytes, known
):
    async with serve(models=[tiny_checkpoint], prefix_cache_megabytes=megabytes) as client:
        apart = await one_by_one(client)
        computed = metrics.batches.tokens.labels("computed")._value.get()
    assert computed == 6 * 43 - 5 * known
    async with serve(models=[tiny_checkpoint]) as client:
        body = {"items": [{"token_ids": ids} for ids in GROUP]}
        together = (await client.post("/score", json=body)).json()["items"]
    assert apart == pytest.approx([item["score"] for item in together], abs=1e-5)


async def test_deterministic_scores_are_the_same_alone_and_among_others(serve, ensemble_file):
    async def scores(client, items) -> list[list[float]]:
        body = {"items": [{"token_ids": ids} for ids in items]}
        return (await client.post("/ensemble_score", json=body)).json()["member_scores"]

    settings = {"deterministic": True, "cache_megabytes": 0}
    async with serve(models=[ensemble_file], **settings) as client:
        alone = [(await scores(client, [ids]))[0] for ids in GROUP]
        assert await scores(client, GROUP) == alone
        several = await asyncio.gather(*(scores(client, GROUP[i:]) for i in range(6)))
    assert several == [alone[i:] for i in range(6)]


def test_deterministic_is_not_for_vllm():
    with pytest.raises(SettingsError, match="--deterministic is torch's"):
        load(["x", "--engine", "vllm", "--deterministic"])


@pytest.mark.filterwarnings("ignore:flex_attention called without")
async def test_flex_attention_scores_as_the_products(serve, ensemble_file):
    body = {"items": [{"token_ids": ids} for ids in GROUP]}
    found = {}
    with torch.compiler.set_stance("force_eager"):
        for attention in ("products", "flex"):
            async with serve(models=[ensemble_file], attention=attention) as client:
                answer = (await client.post("/ensemble_score", json=body)).json()
                found[attention] = np.array(answer["member_scores"])
    assert found["flex"] == pytest.approx(found["products"], abs=1e-5)
    assert (found["flex"] != found["products"]).any()  # computed otherwise


@pytest.mark.parametrize("other", [["--engine", "vllm"], ["--deterministic"]])
def test_flex_attention_is_for_torch_and_not_deterministic(other):
    with pytest.raises(SettingsError, match="leave out"):
        load(["x", "--attention", "flex", *other])


async def test_one_thread_loads_verifies_and_computes(serve, ensemble_file, monkeypatch):
    """Each thread that computes has a team of OpenMP threads for good; two teams of all cores get
    in each other's way."""
    seen = set()

    def watched(whole):
        def run(*arguments, **named):
            seen.add((whole.__name__, threading.current_thread().name))
            return whole(*arguments, **named)

        return run

    monkeypatch.setattr(RewardModel, "open", watched(RewardModel.open))
    monkeypatch.setattr(JointModel, "compute", watched(JointModel.compute))
    async with serve(models=[ensemble_file], deterministic=True) as client:
        await client.post("/ensemble_score", json={"items": [{"token_ids": GROUP[0]}]})
    assert {name for name, _ in seen} == {"open", "compute"}
    assert len({thread for _, thread in seen}) == 1
    assert threading.current_thread().name not in {thread for _, thread in seen}
