"""What an experiment found: tables, one figure, numbers, and what did not hold."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Result:
    """``figure`` is an SVG; ``failures`` name what the experiment is to show and did not."""

    tables: list[str]
    figure: str
    figures: dict[str, Any]
    failures: list[str]

    def write(self, out: Path, name: str) -> None:
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.md").write_text("\n".join(self.tables))
        (out / f"{name}.svg").write_text(self.figure)
        (out / f"{name}.json").write_text(
            json.dumps({"failures": self.failures, **self.figures}, indent=1) + "\n"
        )


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
