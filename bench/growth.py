"""How the time of a request grows: with its items, with its prompt, and with the members asked.

    python bench/growth.py MEMBER [MEMBER …] [--data ../shared/data] [--repeats 3]
        [--plot docs/growth.svg]

Each curve doubles one size and holds the others: items of 32 tokens; 8 responses of 32 tokens to
one prompt; members that score 16 pairs. Texts are real, cut to the length that is asked for.
Forwards have at most 16,384 tokens, so that the longest prompt has all its responses in one. Times
are medians; a slope is that of the logarithms over the last three doublings: 1 is linear growth.
Members are taken again and again where there are fewer than 8: copies of a member cost what others
do, since only the blocks that all share are computed once.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from contestants import Sequences
from loads import load
from matplotlib.figure import Figure

from plaudit.conversation import Encoder
from plaudit.joint_model import Asked, JointModel, join
from plaudit.reward_model import RewardModel
from training.drawing import svg

MAX_BATCH_TOKENS = 16_384
RESPONSE = 32
ITEMS = [2**i for i in range(13)]
PROMPTS = [2**i for i in range(7, 14)]
MEMBERS = [1, 2, 4, 8]


@dataclass
class Curve:
    """Seconds by size."""

    name: str
    sizes: list[int]
    seconds: list[float]

    def slope(self) -> float:
        x, y = np.log(self.sizes[-4:]), np.log(self.seconds[-4:])
        return float(np.polyfit(x, y, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("members", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--plot", type=Path, default=Path("growth.svg"))
    options = parser.parse_args()
    encoder = Encoder.load(options.members[0], 4096)
    texts = load("pairs", encoder, options.data, 256)
    paths = itertools.islice(itertools.cycle(options.members), max(MEMBERS))
    joint, *others = join(RewardModel.load(path, "cpu", "bfloat16") for path in paths)
    assert not others, "members that share no block cannot be compared"
    curves = [
        Curve("items of 32 tokens", ITEMS, []),
        Curve("tokens of the prompt of 8 responses", PROMPTS, []),
        Curve("members", MEMBERS, []),
    ]
    for curve, work in zip(curves, (items(texts), prompts(texts), members(texts)), strict=True):
        for size, asked in zip(curve.sizes, work, strict=True):
            curve.seconds.append(median_time(joint, asked, options.repeats))
            print(f"{curve.name} | {size} | {curve.seconds[-1]:.4f} s", flush=True)
        print(f"{curve.name}: slope {curve.slope():.2f}", flush=True)
    options.plot.write_text(svg(partial(draw, curves), width=12, height=3.6))


def items(texts: Sequences) -> Iterator[list[Asked]]:
    starts = ((ids, i) for ids in texts for i in range(0, len(ids) - RESPONSE, RESPONSE))
    distinct = [*dict.fromkeys(tuple(ids[i : i + RESPONSE]) for ids, i in starts)]
    assert len(distinct) >= max(ITEMS)
    for size in ITEMS:
        yield [Asked(0, ids) for ids in distinct[:size]]


def prompts(texts: Sequences) -> Iterator[list[Asked]]:
    flat = [token for ids in texts for token in ids]
    responses = [flat[-RESPONSE * (i + 1) :][:RESPONSE] for i in range(8)]
    for size in PROMPTS:
        yield [Asked(0, [*flat[:size], *response]) for response in responses]


def members(texts: Sequences) -> Iterator[list[Asked]]:
    for size in MEMBERS:
        yield [Asked(member, ids) for ids in texts[:32] for member in range(size)]


def median_time(joint: JointModel, asked: list[Asked], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        began = time.perf_counter()
        joint.score_all(asked, MAX_BATCH_TOKENS)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def draw(curves: list[Curve], figure: Figure) -> None:
    axes = figure.subplots(1, len(curves))
    for axis, curve in zip(axes, curves, strict=True):
        axis.loglog(curve.sizes, curve.seconds, "o-", base=2)
        axis.set(xlabel=curve.name, ylabel="seconds", title=f"slope {curve.slope():.2f}")
        axis.grid(alpha=0.3)


if __name__ == "__main__":
    main()
