"""``plaudit relabel``: pairs treated by their preference strength, and pictures of it."""

import argparse
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from training.data.jsonlines import DataError, Row, check_name, read_rows, write_rows
from training.noise import drawing, figures
from training.noise.strength import MEAN, STD
from training.noise.treatments import KINDS, TREATED, Treatment, TreatmentError, treat

NUMBER = r"(\d*\.?\d+)"
BAND = re.compile(rf"{NUMBER}:{NUMBER}(?:=(-?\d*\.?\d+))?")


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    check_name(options.out, options.strength, beside=(".json", ".svg"))
    treatments = [treatment(name, text) for name in KINDS for text in getattr(options, name)]
    rows = read(options.strength, options.wrong)
    treated = treat(rows, treatments)
    found = figures.measure(rows, options.wrong)
    counts = Counter(name for row in treated for name in row.get(TREATED, ()))
    summary = {
        "pairs": len(rows),
        "written": len(treated),
        "treatments": [vars(one) for one in treatments],
        "treated": counts,
        "strength": msgspec.to_builtins(found),
    }
    write_rows(options.out, treated)
    options.out.with_suffix(".json").write_text(json.dumps(summary, indent=1) + "\n")
    options.out.with_suffix(".svg").write_text(drawing.draw(found))
    done = ", ".join(f"{name} {count}" for name, count in counts.items()) or "untreated"
    print(f"{options.out}: {len(treated)} of {len(rows)} pairs; {done}")
    print(f"{options.out.with_suffix('.svg')}: what strength shows of them", file=sys.stderr)
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
    for name, kind in KINDS.items():
        found.add_argument(
            f"--{name}", action="append", default=[], metavar=kind.form, help=kind.help
        )
    found.add_argument(
        "--wrong",
        metavar="COLUMN",
        help="column that is true where the label is known to be wrong: agreement is shown by band",
    )
    return found


def treatment(name: str, text: str) -> Treatment:
    """``LOW:HIGH`` or ``LOW:HIGH=VALUE``, as the treatment wants it."""
    form = KINDS[name].form
    matched = BAND.fullmatch(text)
    if matched is None or (matched[3] is None) == ("=" in form):
        raise TreatmentError(f"--{name} {text}: write {form}")
    low, high, value = float(matched[1]), float(matched[2]), float(matched[3] or 0)
    if not 0 <= low < high <= 1:
        raise TreatmentError(f"--{name} {text}: a band lies within 0:1, LOW below HIGH")
    if name == "smooth" and not 0 < value < 1:
        raise TreatmentError(f"--{name} {text}: A is a probability between 0 and 1")
    return Treatment(name, low, high, value)


def read(path: Path, wrong: str | None) -> list[Row]:
    """Rows with strengths that are numbers, and with the column that says what is wrong."""
    columns = [MEAN, STD, "chosen", "rejected"] + ([wrong] if wrong else [])
    rows = read_rows(path, columns)
    for number, row in enumerate(rows, start=1):
        if not all(
            isinstance(row[name], float) and math.isfinite(row[name]) for name in (MEAN, STD)
        ):
            raise DataError(f"{path}, row {number}: {MEAN} and {STD} are to be finite numbers")
        if wrong and not isinstance(row[wrong], bool):
            raise DataError(f"{path}, row {number}: {wrong} is to be true or false")
    return rows
