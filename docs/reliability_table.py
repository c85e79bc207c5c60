"""Prints the table of docs/reliability.md: python docs/reliability_table.py

Of docs/results/chaos.jsonl, which ``make chaos`` writes.
"""

import json
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

FIGURES = Path(__file__).parent / "results" / "chaos.jsonl"
HEADER = ["promise", "tested by", "form", "requests", "faults", "lost", "wrong", "measured"]
COUNTS = ("requests", "faults", "lost", "wrong")


def render(figures: Path = FIGURES) -> str:
    """A Markdown table with a row for each promise, under the heading of its test file."""
    lines = [json.loads(line) for line in figures.read_text().splitlines()]
    rows = [HEADER, ["---"] * len(HEADER)]
    for of, found in groupby(sorted(lines, key=file_of), key=lambda line: line["of"]):
        rows += [[f"**{of.rstrip('.')}**", *[""] * (len(HEADER) - 1)], *map(row, found)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def file_of(line: Mapping[str, str]) -> str:
    return line["test"].partition("::")[0]


def row(line: Mapping[str, object]) -> list[str]:
    counted = line["counted"]
    assert isinstance(counted, dict)
    more = [measure(name, value) for name, value in counted.items() if name not in COUNTS]
    counts = [f"{counted[name]:,}" for name in COUNTS]
    form = "long" if line["long"] else "bounded"
    return [str(line["promise"]), f"`{line['test']}`", form, *counts, "; ".join(more)]


def measure(name: str, value: float) -> str:
    return f"{name.replace('_', ' ')} {value:g}"


if __name__ == "__main__":
    print(render(), end="")
