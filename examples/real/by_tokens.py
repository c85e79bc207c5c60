"""The accuracy of a finished ``plaudit evaluate`` by the tokens of a pair's longer side, uncut.

    python examples/real/by_tokens.py runs/six/evaluation --tokenizer runs/six/warm --to 512 1024

Prints a table for each source: a line for the pairs of each range of lengths, and one for all.
Accuracies of a range have 95 % intervals over its prompts.
"""

import argparse
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from plaudit.conversation import Encoder
from training import settings
from training.data import sources
from training.evaluate.accuracy import accuracies, is_right
from training.settings import DataSettings

UNLIMITED = 2**63 - 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("evaluation", type=Path, help="its --out directory")
    parser.add_argument("--data", type=Path, default=Path("examples/real/evaluate-rmb.yaml"))
    parser.add_argument("--tokenizer", type=Path, required=True, help="one of its checkpoints")
    parser.add_argument("--to", type=int, nargs="+", required=True, help="upper ends of the ranges")
    options = parser.parse_args()
    encoder = Encoder.load(options.tokenizer, UNLIMITED)
    lines = list(map(json.loads, (options.evaluation / "scores.jsonl").read_text().splitlines()))
    for source in settings.load(DataSettings, options.data).sources:
        own = [line for line in lines if line["source"] == source.name]
        print(f"{source.name}\n{table(own, longer_sides(own, source, encoder), options.to)}")


def longer_sides(
    lines: list[dict[str, Any]], source: sources.Source, encoder: Encoder
) -> np.ndarray:
    """Tokens (P,) of each pair's longer side."""
    pairs = {(pair.line, pair.places): pair for pair in sources.load(source).pairs}
    evaluated = [pairs[line["line"], tuple(line["places"])] for line in lines]
    return np.array(
        [
            max(len(encoder.pair(pair.asked, one)) for one in (pair.chosen, pair.rejected))
            for pair in evaluated
        ]
    )


def table(lines: list[dict[str, Any]], tokens: np.ndarray, ends: list[int]) -> str:
    names = list(lines[0]["scores"])
    scores = np.array([[line["scores"][name] for name in names] for line in lines])
    right = is_right(scores[:, :, 0], scores[:, :, 1])
    ranges = [*pairwise([0, *ends, UNLIMITED]), (0, UNLIMITED)]
    rows = [f"| tokens | pairs | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for above, to in ranges:
        own = np.flatnonzero((tokens > above) & (tokens <= to))
        if own.size:
            found = accuracies(right[own], [lines[pair]["prompt"] for pair in own])
            figures = " | ".join(f"{one:.3f}" for one in found)
            rows.append(f"| {tokens[own].min()} to {tokens[own].max()} | {own.size} | {figures} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
