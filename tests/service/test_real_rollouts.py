"""Real conversations through a real socket from many callers at once, against Transformers."""

import asyncio
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from plaudit import AsyncRewardClient
from training.data import sources
from training.data.sources import Source

DATA = Path(__file__).parents[2].parent / "shared" / "data"
BASE = Path(__file__).parents[2] / "models" / "smollm2-135m"
PAIRS = 1000
CALLERS = 64


@pytest.fixture(scope="session")
def real_tokenizer():
    if not BASE.is_dir():
        pytest.skip(f"{BASE} is missing: make models/smollm2-135m/tokenizer_config.json")
    return AutoTokenizer.from_pretrained(BASE)


@pytest.fixture(scope="session")
def items():
    if not DATA.is_dir():
        pytest.skip(f"no preference data at {DATA}")
    pairs = []
    for name in ("hh_helpful", "hh_harmless"):
        source = Source(name=name, path=DATA / f"{name}.jsonl.gz")
        pairs += sources.load(source).pairs[: PAIRS // 2]
    return [
        {"prompt": list(pair.prompt), "response": response}
        for pair in pairs
        for response in (pair.chosen, pair.rejected)
    ]


def plain_scores(directory, tokenizer, items) -> list[float]:
    model = AutoModelForSequenceClassification.from_pretrained(directory, dtype=torch.float32)
    found = []
    for item in items:
        messages = [*item["prompt"], {"role": "assistant", "content": item["response"]}]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        ids = tokenizer(text, add_special_tokens=False).input_ids
        with torch.inference_mode():
            found.append(model(torch.tensor([ids])).logits.item())
    return found


async def score_one_by_one(url: str, items) -> list[float]:
    """CALLERS callers, one item a request; each result at its item's place."""
    found: list[float | None] = [None] * len(items)
    waiting = iter(enumerate(items))

    async def caller(client: AsyncRewardClient) -> None:
        for place, item in waiting:
            answer = await client.score([item])
            answer.raise_for_errors()
            found[place] = answer.items[0].score

    async with AsyncRewardClient(url, concurrency=CALLERS) as client:
        await asyncio.gather(*(caller(client) for _ in range(CALLERS)))
    return found


def test_a_thousand_real_pairs_from_64_callers_equal_plain_transformers(
    listen, tmp_path, real_tokenizer, items, save_plain
):
    directory = save_plain(tmp_path / "tiny", real_tokenizer, seed=0)
    with listen(models=[directory], max_tokens=1024) as url:
        scores = asyncio.run(score_one_by_one(url, items))
    assert None not in scores
    assert len(scores) == 2 * PAIRS
    assert scores == pytest.approx(plain_scores(directory, real_tokenizer, items), abs=1e-4)
