"""The packed forward beside padded Transformers, in one run: useful tokens per second.

    python bench/forward.py [--model models/smollm2-135m] [--dtype bfloat16]

Two shapes: rollout groups (16 responses to each prompt) and pairs (2). "Useful" counts every token
of every sequence, shared or not; padding does not count. Medians of --repeats runs, interleaved.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable

import torch
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from plaudit.packing import packed_batches
from plaudit.reward_model import DTYPES, batch_for, scores

SHAPES = {"groups of 16": (8, 16), "pairs": (32, 2)}


def sequences(prompts: int, responses: int) -> list[list[int]]:
    """Random ids: prompts of 100 to 200 tokens, responses of 20 to 120, in arrival order."""
    rng = random.Random(0)
    found = []
    for _ in range(prompts):
        prompt = rng.choices(range(100, 40_000), k=rng.randint(100, 200))
        for _ in range(responses):
            found.append(prompt + rng.choices(range(100, 40_000), k=rng.randint(20, 120)))
    rng.shuffle(found)
    return found


def padded(model: PreTrainedModel, items: list[list[int]]) -> None:
    """What a user of plain Transformers writes: batches of 16 in arrival order, right-padded."""
    model.set_attn_implementation("sdpa")
    for start in range(0, len(items), 16):
        rows = items[start : start + 16]
        width = max(map(len, rows))
        ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        model(input_ids=ids, attention_mask=mask)


def packed(model: PreTrainedModel, items: list[list[int]]) -> None:
    for batch in packed_batches(items, 4096):
        scores(model, batch_for(model, [items[i] for i in batch]))


def seconds(run: Callable[[], None]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="models/smollm2-135m")
    parser.add_argument("--dtype", choices=DTYPES, default="bfloat16")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    model = AutoModelForSequenceClassification.from_pretrained(
        options.model, num_labels=1, pad_token_id=0, dtype=DTYPES[options.dtype]
    ).eval()
    for name, shape in SHAPES.items():
        items = sequences(*shape)
        total = sum(map(len, items))
        speed: dict[str, list[float]] = {"padded": [], "packed": []}
        for _ in range(options.repeats):
            speed["padded"].append(total / seconds(lambda items=items: padded(model, items)))
            speed["packed"].append(total / seconds(lambda items=items: packed(model, items)))
        slow, fast = (statistics.median(speed[kind]) for kind in ("padded", "packed"))
        print(f"{name:14} padded {slow:7.0f}  packed {fast:7.0f} tokens/s  ratio {fast / slow:.2f}")


if __name__ == "__main__":
    main()
