"""What is left to vLLM: the order in which a core computes, and prefixes that it has computed."""

import asyncio
import random
from contextlib import asynccontextmanager

import pytest
from vllm.outputs import PoolingRequestOutput

pytestmark = pytest.mark.asyncio(loop_scope="session")


@pytest.fixture
def outputs(served, monkeypatch) -> list[PoolingRequestOutput]:
    """All that the core gives back from here on, as it comes."""
    found, encode = [], served.core._llm.encode

    async def seen(*arguments, **named):
        async for output in encode(*arguments, **named):
            found.append(output)
            yield output

    monkeypatch.setattr(served.core._llm, "encode", seen)
    return found


@asynccontextmanager
async def paused(core):
    """What arrives meanwhile waits in the core, and is scheduled together afterwards."""
    await core._llm.pause_generation(mode="keep", clear_cache=False)
    try:
        yield
    finally:
        await core._llm.resume_generation()


async def score(client, ids, priority="train") -> float:
    headers = {"X-Priority": priority}
    answer = await client.post("/score", json={"items": [{"token_ids": ids}]}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"][0]["score"]


async def test_what_is_urgent_comes_first_and_else_what_came_first(served, outputs):
    """The nine, all that the service lets in at a time, are more than a forward takes."""
    arriving = ["offline", "eval", "train"] * 3
    rng = random.Random(5)
    sequences = [rng.choices(range(3, 200), k=450) for _ in arriving]
    asked = []
    async with paused(served.core):
        for number, (ids, priority) in enumerate(zip(sequences, arriving, strict=True), start=1):
            asked.append(asyncio.create_task(score(served.client, ids, priority)))
            await served.until_busy(number)
    await asyncio.gather(*asked)
    computed = [sequences.index(output.prompt_token_ids) for output in outputs]
    assert computed == [2, 5, 8, 1, 4, 7, 0, 3, 6]


async def test_a_prompt_in_common_is_computed_once(served, outputs):
    """In whole blocks of the cache of keys and values; a response of its own never."""
    block = served.core._llm.vllm_config.cache_config.block_size
    rng = random.Random(6)
    prompt = rng.choices(range(3, 200), k=2 * block + block // 2)
    responses = [rng.choices(range(3, 200), k=40) for _ in range(3)]
    for response in responses:
        await score(served.client, prompt + response)
    assert [output.num_cached_tokens for output in outputs] == [0, 2 * block, 2 * block]
