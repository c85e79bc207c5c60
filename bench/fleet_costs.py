"""What a forward costs on this machine: the figures that the simulated fleet computes with.

    python bench/fleet_costs.py --model runs/demo/warm --machine "one CPU core" [--threads 1]
        [--out bench/fleet_costs.json]

Times forwards as the server makes them (packed, with a prefix cache that knows nothing yet) over a
grid of tokens, sequences a prompt and lengths, and fits

    seconds = fixed + token * computed tokens + sequence * sequences

by least squares of relative errors with no negative part. Ids are random: a dense model computes
all of them alike. Seconds are those of the processor, not of the clock, so that a machine that does
other things besides gives the same figures; with ``--threads 1`` they are what a clock would show
on a machine that does not.
"""

import argparse
import itertools
import json
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from plaudit.joint_model import Asked, JointModel
from plaudit.prefix_cache import PrefixCache
from plaudit.reward_model import RewardModel

COMPUTED = [64, 256, 1024, 2048, 4096, 8192]
A_PROMPT = [1, 4, 16]
RESPONSE = [32, 128, 256]
PROMPT = 96
PREFIX_CACHE_BYTES = 1 << 30


@dataclass(frozen=True)
class Point:
    """One forward: the tokens it computed, the sequences it scored, processor seconds."""

    computed: int
    sequences: int
    a_prompt: int
    seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--machine", required=True, help="in words, as it is to be printed")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    began = time.process_time()
    model = RewardModel.load(options.model, device="cpu", dtype="bfloat16")
    load_seconds = time.process_time() - began
    points = [*measure(model, options.repeats)]
    fixed, token, sequence = fit(points)
    found = {
        "machine": options.machine,
        "model": f"{model.classifier.num_parameters() / 1e6:.0f}M parameters, bf16",
        "load_seconds": round(load_seconds, 2),
        "fixed_seconds": float(f"{fixed:.4g}"),
        "token_seconds": float(f"{token:.4g}"),
        "sequence_seconds": float(f"{sequence:.4g}"),
        "relative_error": errors(points, (fixed, token, sequence)),
        "points": [asdict(point) for point in points],
    }
    options.out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps({name: found[name] for name in found if name != "points"}, indent=1))


def measure(model: RewardModel, repeats: int) -> Iterator[Point]:
    """The median of ``repeats`` forwards at each point of the grid, after one to warm up."""
    spread = random.Random(0)
    forward(model, sequences(spread, 4, 1, 32))
    for computed, a_prompt, response in itertools.product(COMPUTED, A_PROMPT, RESPONSE):
        groups = round(computed / (PROMPT + a_prompt * response))
        if not groups:
            continue
        found = [
            forward(model, sequences(spread, groups, a_prompt, response)) for _ in range(repeats)
        ]
        seconds = statistics.median(taken for _, taken in found)
        yield Point(found[0][0], groups * a_prompt, a_prompt, round(seconds, 5))
        print(f"{found[0][0]} tokens, {groups} x {a_prompt}: {seconds:.4f} s", flush=True)


def sequences(spread: random.Random, groups: int, a_prompt: int, response: int) -> list[list[int]]:
    def ids(count: int) -> list[int]:
        return [spread.randrange(3, 40_000) for _ in range(count)]

    prompts = [ids(PROMPT) for _ in range(groups)]
    return [[*prompt, *ids(response)] for prompt in prompts for _ in range(a_prompt)]


def forward(model: RewardModel, ids: list[list[int]]) -> tuple[int, float]:
    """Tokens that one forward computed, and its processor seconds."""
    joint = JointModel(model, PrefixCache(PREFIX_CACHE_BYTES))
    asked = [Asked(0, one) for one in ids]
    began = time.process_time()
    tokens = joint.compute(asked).tokens
    return tokens, time.process_time() - began


def fit(points: list[Point]) -> tuple[float, float, float]:
    """Seconds of a forward, of a computed token, of a sequence."""
    rows = np.array([(1.0, p.computed, p.sequences) for p in points])
    seconds = np.array([p.seconds for p in points])
    found, _ = nnls(rows / seconds[:, None], np.ones(len(points)))
    return float(found[0]), float(found[1]), float(found[2])


def errors(points: list[Point], coefficients: tuple[float, float, float]) -> dict[str, float]:
    """How far the fit is off, as parts of what was measured."""
    fixed, token, sequence = coefficients
    found = [
        abs((fixed + token * p.computed + sequence * p.sequences) / p.seconds - 1) for p in points
    ]
    return {"median": round(statistics.median(found), 3), "largest": round(max(found), 3)}


if __name__ == "__main__":
    main()
