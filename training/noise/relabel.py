"""``plaudit relabel``: pairs treated by their preference strength, and pictures of it."""

import argparse
import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from training.data.jsonlines import read_rows, write_rows
from training.noise import figures
from training.noise.strength import MEAN, STD
from training.noise.treatments import (
    DROP,
    TREATED,
    TREATMENTS,
    Treatment,
    TreatmentError,
    treat,
)

HELP = {
    "flip": ("LOW:HIGH", "swap chosen and rejected"),
    "drop": ("LOW:HIGH", "leave the pairs out"),
    "soft": ("LOW:HIGH", "soft_label = sigmoid(mean_diff)"),
    "smooth": ("LOW:HIGH=A", "soft_label = 1 - A"),
    "margin": ("LOW:HIGH=SCALE", "target_margin = SCALE * mean_diff"),
}
NUMBER = r"(\d*\.?\d+)"
BAND = re.compile(rf"{NUMBER}:{NUMBER}(?:=(-?\d*\.?\d+))?")


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    treatments = [
        treatment(name, text) for name in (DROP, *TREATMENTS) for text in getattr(options, name)
    ]
    rows = list(read_rows(options.strength, (MEAN, STD, "chosen", "rejected")))
    treated = treat(rows, treatments)
    write_rows(options.out, treated)
    found = figures.measure(rows, options.wrong)
    picture = options.out.with_suffix(".svg")
    picture.write_text(figures.draw(found))
    summary = {
        "pairs": len(rows),
        "written": len(treated),
        "treatments": [vars(one) for one in treatments],
        "treated": dict(Counter(name for row in treated for name in row[TREATED])),
        "strength": msgspec.to_builtins(found),
    }
    options.out.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n")
    print(f"{options.out}: {len(treated)} of {len(rows)} pairs, {summary['treated']}")
    print(f"{picture}: mean, deviation and agreement by strength", file=sys.stderr)
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="plaudit relabel",
        description=__doc__,
        epilog="A band LOW:HIGH is a range of quantiles of mean_diff: 0:0.1 is the weakest tenth. "
        "Each option may stand several times, for bands that do not overlap.",
    )
    found.add_argument("strength", type=Path, help="file of plaudit strength")
    found.add_argument("--out", type=Path, required=True, help="the new data file (.jsonl)")
    for name, (metavar, text) in HELP.items():
        found.add_argument(f"--{name}", action="append", default=[], metavar=metavar, help=text)
    found.add_argument(
        "--wrong",
        metavar="COLUMN",
        help="column that is true where the label is known to be wrong: agreement is shown by band",
    )
    return found


def treatment(name: str, text: str) -> Treatment:
    """``LOW:HIGH`` or ``LOW:HIGH=VALUE``, as the option wants it."""
    matched = BAND.fullmatch(text)
    metavar = HELP[name][0]
    if matched is None or (matched[3] is None) == ("=" in metavar):
        raise TreatmentError(f"--{name} {text}: write {metavar}")
    low, high = float(matched[1]), float(matched[2])
    value = float(matched[3] or 0)
    if not 0 <= low < high <= 1:
        raise TreatmentError(f"--{name} {text}: a band lies within 0:1, LOW below HIGH")
    if name == "smooth" and not 0 < value < 1:
        raise TreatmentError(f"--{name} {text}: A is a probability between 0 and 1")
    return Treatment(name, low, high, value)
