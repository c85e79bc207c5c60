"""``plaudit select``: a share of a file's pairs that covers the others, by greedy k-center."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.data.jsonlines import DataError, Row, check_name, write_rows
from training.data.shapes import Pair, Shape
from training.data.sources import Source, load, rows_of_file
from training.measure import Array
from training.selection.embedding import TEXTS, embed
from training.selection.k_center import cover_radius, k_center

DRAWS = 5
# One pair a row, so that a row can be chosen.
SINGLE: tuple[Shape, ...] = ("plaudit", "transcript", "messages")


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    check(options)
    rows, pairs = read(options.pairs, options.shape)
    count = round(options.share * len(pairs))
    if count == 0:
        raise DataError(f"--share {options.share} of {len(pairs)} pairs is none; raise it")
    texts = [TEXTS[options.text](pair) for pair in pairs]
    points, cut = embed(texts, options.encoder, options.max_tokens)
    cover = k_center(points, count, options.seed)
    write_rows(options.out, [rows[place] for place in sorted(cover.chosen)])
    print(f"{cut} of {len(pairs)} texts over {options.max_tokens} tokens, cut", file=sys.stderr)
    print(
        f"{options.out}: {count} of {len(pairs)} pairs; cover radius {cover.radius:.3f}, of as "
        f"many at random {random_radius(points, count, options.seed):.3f} (median of {DRAWS})"
    )
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="plaudit select", description=__doc__)
    found.add_argument("pairs", type=Path, help="file of pairs (.jsonl or .jsonl.gz)")
    found.add_argument("--out", type=Path, required=True, help="the new data file (.jsonl)")
    found.add_argument("--share", type=float, required=True, help="of the pairs, above 0 up to 1")
    found.add_argument(
        "--encoder", type=Path, required=True, metavar="DIR", help="Transformers sentence encoder"
    )
    found.add_argument(
        "--text",
        choices=TEXTS,
        default="prompt",
        help="what is embedded: the prompt, or the prompt with the chosen response, which can "
        "select by the label; default: prompt",
    )
    found.add_argument(
        "--shape",
        choices=SINGLE,
        default="plaudit",
        help="how a row holds its pair; default: plaudit",
    )
    found.add_argument("--max-tokens", type=int, default=256, help="of a text; default: 256")
    found.add_argument("--seed", type=int, default=0, help="of the k-means centres, and of ties")
    return found


def check(options: argparse.Namespace) -> None:
    check_name(options.out, options.pairs)
    if not 0 < options.share <= 1:
        raise DataError(f"--share {options.share}: a share is above 0 and at most 1")
    if options.max_tokens < 1 or options.seed < 0:
        raise DataError("--max-tokens is at least 1, --seed at least 0")


def read(path: Path, shape: Shape) -> tuple[list[Row], list[Pair]]:
    """The rows that hold a pair, as they are, and their pairs; what does not fit is reported."""
    source = Source(name=path.name, path=path, shape=shape)
    loaded = load(source)
    print(loaded.report(), file=sys.stderr)
    refused = {number for number, _ in loaded.refused}
    rows = [
        row
        for number, row in rows_of_file(source)[1]
        if isinstance(row, dict) and number not in refused
    ]
    return rows, loaded.pairs


def random_radius(points: Array, count: int, seed: int) -> float:
    """The median cover radius of ``count`` points drawn at random."""
    generator = np.random.default_rng(seed)
    draws = [generator.choice(len(points), count, replace=False) for _ in range(DRAWS)]
    return float(np.median([cover_radius(points, chosen) for chosen in draws]))
