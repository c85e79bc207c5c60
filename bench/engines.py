"""Scoring side by side on real texts: Plaudit, Transformers, vLLM, and the limit of the machine.

    python bench/engines.py --model runs/demo/warm --data ../shared/data \\
        [--vllm .venv-vllm/bin/python] [--block-sizes 128 32] [--repeats 3] [--size 4]
        [--json FILE] [--plot FILE.svg]

On the CPU. Each row is a load (bench/loads.py). All contestants score it one after another in every
round, so that noise of a shared machine meets all of them; figures are medians. "Useful" tokens are
those of all sequences, whether computed, shared or padded around. Memory is what one more round
takes beyond what was held before it: weights, and vLLM's cache of keys and values, are.
"""

import argparse
import json
import os
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from contestants import (
    LIMIT,
    UNSHARED,
    Contestant,
    MatrixProducts,
    Plain,
    Plaudit,
    Unshared,
    Vllm,
    median_seconds,
)
from loads import LOADS, load
from matplotlib.figure import Figure
from memory import peak_megabytes

from plaudit.conversation import Encoder
from plaudit.reward_model import RewardModel
from training.drawing import svg

ARRIVAL, SORTED = "Transformers, arrival order", "Transformers, by length"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=Path("runs/demo/warm"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--vllm", type=Path, help="Python of an environment that has vLLM")
    parser.add_argument(
        "--block-sizes", type=int, nargs="+", default=[128, 32], help="of vLLM's prefix cache"
    )
    parser.add_argument("--loads", nargs="+", choices=LOADS, default=list(LOADS))
    parser.add_argument("--size", type=int, default=4, help="prompts of 16 in a load")
    parser.add_argument("--max-tokens", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument("--plot", type=Path, help="draw them here")
    options = parser.parse_args()
    plaudit = Plaudit(RewardModel.load(options.model, "cpu", "bfloat16"))
    contestants: list[Contestant] = [
        plaudit,
        Plain(ARRIVAL, options.model, by_length=False),
        Plain(SORTED, options.model, by_length=True),
        Unshared(options.model),
        MatrixProducts(options.model),
    ]
    peers = [
        Vllm(options.vllm, options.model, options.max_tokens, size)
        for size in (options.block_sizes if options.vllm else [])
    ]
    contestants[1:1] = peers
    encoder = Encoder.load(options.model, options.max_tokens)
    found = []
    for name in options.loads:
        sequences = load(name, encoder, options.data, options.size)
        seconds = median_seconds(contestants, sequences, options.repeats)
        megabytes = {one.name: megabytes_of(one, sequences) for one in contestants}
        computed = plaudit.computed(sequences)
        found.append(figures(name, sequences, computed, seconds, megabytes))
        print(row(found[-1]), flush=True)
    for peer in peers:
        peer.close()
    print("\n" + table(found) + "\n\n" + memory_table(found))
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in found], indent=1) + "\n")
    if options.plot:
        options.plot.write_text(svg(partial(draw, found), width=9, height=4))


@dataclass(frozen=True)
class Figures:
    """One load: useful tokens per second of each contestant, its time over Plaudit's, the part of
    the limit's speed that is reached where nothing is shared, and the memory that a round takes."""

    load: str
    sequences: int
    useful_tokens: int
    computed_share: float
    tokens_per_second: dict[str, float]
    ratio: dict[str, float]
    of_limit: float
    megabytes: dict[str, float]


def megabytes_of(contestant: Contestant, sequences: list[list[int]]) -> float:
    process = contestant.pid if isinstance(contestant, Vllm) else os.getpid()
    return peak_megabytes(lambda: contestant.seconds(sequences), process)


def figures(
    name: str,
    sequences: list[list[int]],
    computed: int,
    seconds: dict[str, float],
    megabytes: dict[str, float],
) -> Figures:
    useful = sum(map(len, sequences))
    ours = seconds["plaudit"]
    return Figures(
        load=name,
        sequences=len(sequences),
        useful_tokens=useful,
        computed_share=computed / useful,
        tokens_per_second={who: useful / taken for who, taken in seconds.items()},
        ratio={who: taken / ours for who, taken in seconds.items() if who != "plaudit"},
        of_limit=seconds[LIMIT] / seconds[UNSHARED],
        megabytes=megabytes,
    )


def row(one: Figures) -> str:
    cells = [
        one.load,
        str(one.sequences),
        f"{one.useful_tokens:,}",
        f"{one.computed_share:.2f}",
        f"{one.tokens_per_second['plaudit']:,.0f}",
        f"{one.tokens_per_second['plaudit'] * one.sequences / one.useful_tokens:.1f}",
        *(f"{value:.2f}" for value in one.ratio.values()),
        f"{one.of_limit:.2f}",
    ]
    return f"| {' | '.join(cells)} |"


def table(found: list[Figures]) -> str:
    head = ["load", "sequences", "useful tokens", "computed / useful", "Plaudit, tokens/s"]
    head += ["scores/s"]
    head += [f"over {who}" for who in found[0].ratio]
    head += ["of the limit, nothing shared"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *map(row, found)])


def memory_table(found: list[Figures]) -> str:
    head = ["load", *(f"{who}, MB" for who in found[0].megabytes)]
    rows = [[one.load, *(f"{taken:.0f}" for taken in one.megabytes.values())] for one in found]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(cells)} |" for cells in rows)])


def draw(found: list[Figures], figure: Figure) -> None:
    """Bars of useful tokens per second, a group for each load."""
    axis = figure.subplots()
    names = list(found[0].tokens_per_second)
    width = 0.8 / len(names)
    for i, name in enumerate(names):
        at = [load + (i - (len(names) - 1) / 2) * width for load in range(len(found))]
        axis.bar(at, [one.tokens_per_second[name] for one in found], width, label=name)
    axis.set_xticks(range(len(found)), [one.load for one in found])
    axis.set_ylabel("useful tokens a second")
    axis.legend()


if __name__ == "__main__":
    main()
