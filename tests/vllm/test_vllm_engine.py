"""The vLLM engine against the real thing: its scores, its aborts, its deaths."""

import asyncio
import json
import random

import pytest
import torch
from transformers import AutoModelForSequenceClassification
from vllm import PoolingParams

from plaudit.checkpoint import CheckpointError
from plaudit.conversation import Encoder
from plaudit.probes import conversations
from service import parity
from service.engines import vllm_core
from service.fair_queue import Caller

pytestmark = pytest.mark.asyncio(loop_scope="session")
CALLER = Caller()
TOLERANCE = 1e-5


def transformers_scores(directory, sequences) -> list[float]:
    """Raw scores by plain Transformers in fp32, one sequence at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32)
    with torch.inference_mode():
        return [model(torch.tensor([ids])).logits.item() for ids in sequences]


def some_sequences(count: int, seed: int = 0) -> list[list[int]]:
    """Groups of eight responses to one prompt."""
    rng = random.Random(seed)
    found = []
    for _ in range(count // 8):
        prompt = rng.choices(range(3, 200), k=rng.randint(20, 90))
        found += [prompt + rng.choices(range(3, 200), k=rng.randint(1, 60)) for _ in range(8)]
    return found


async def score(client, sequences) -> list[float]:
    body = {"items": [{"token_ids": ids} for ids in sequences]}
    answer = await client.post("/score", json=body)
    assert answer.status_code == 200, answer.text
    return [item["score"] for item in answer.json()["items"]]


async def test_conversations_get_the_scores_of_transformers(served, directory):
    body = {"items": [{"messages": list(messages)} for messages in conversations()]}
    answer = (await served.client.post("/score", json=body)).json()
    encoder = Encoder.load(directory, 512)
    expected = transformers_scores(directory, [encoder.messages(m) for m in conversations()])
    assert [item["score"] for item in answer["items"]] == pytest.approx(expected, abs=TOLERANCE)
    assert len({round(one, 3) for one in expected}) > 20


async def test_a_batch_of_many_scores_as_batches_of_one(served):
    sequences = some_sequences(64)
    many = await asyncio.gather(*(served.member.submit(s, CALLER).done for s in sequences))
    single = [await served.member.submit(s, CALLER).done for s in sequences]
    assert many == pytest.approx(single, abs=TOLERANCE)


async def test_abandoned_work_is_aborted_in_the_core(served, monkeypatch):
    aborted = []
    engine_core = served.core._llm.engine_core
    abort = engine_core.abort_requests_async

    async def seen(ids):
        aborted.extend(ids)
        await abort(ids)

    monkeypatch.setattr(engine_core, "abort_requests_async", seen)
    works = [served.member.submit(s, Caller("offline")) for s in some_sequences(800, seed=1)]
    await served.until_busy()
    for work in works:
        work.leave()
    await asyncio.gather(*served.core._running, return_exceptions=True)
    assert any(work.done.cancelled() for work in works)
    assert aborted
    assert served.core._llm.get_num_unfinished_requests() == 0
    assert await served.member.submit([5, 6, 7], CALLER).done == pytest.approx(
        (await score(served.client, [[5, 6, 7]]))[0], abs=TOLERANCE
    )


async def test_scores_that_went_through_an_activation_are_refused(served, monkeypatch):
    """By what every start of a core ends with; this core is asked once more."""
    monkeypatch.setattr(vllm_core, "RAW", PoolingParams(task="classify", use_activation=True))
    with pytest.raises(CheckpointError, match="went through an activation"):
        await served.core._verify(served.member)


async def test_too_long_is_refused_before_the_engine(served):
    answer = await served.client.post("/score", json={"items": [{"token_ids": [5] * 600}]})
    assert answer.json()["items"][0]["error"]["type"] == "too-long"


async def test_parity_compares_it_too(directory, tmp_path):
    out = tmp_path / "parity.json"
    # In bf16 a model as steep as this one orders scores otherwise that are 0.05 apart.
    command = [str(directory), "--engine", "vllm", "--vllm-memory", "0.1", "--margin", "0.2"]
    assert await asyncio.to_thread(parity.main, [*command, "--json", str(out)]) == 0
    rows = {(row["name"], row["dtype"]): row for row in json.loads(out.read_text())["rows"]}
    assert rows["vllm", "float32"]["largest_difference"] <= TOLERANCE
    assert TOLERANCE < rows["vllm", "bfloat16"]["largest_difference"] < 0.5
