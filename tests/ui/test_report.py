"""The report of plaudit evaluate opens in a browser as it lies on disk."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Page

from training.evaluate.command import main

SHOWN = Path(__file__).parents[2] / "docs" / "results" / "real-320.html"


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, members: list[Path]) -> Path:
    """Of two members and their ensemble, with a mistake shown."""
    root = tmp_path_factory.mktemp("report")
    rows = [
        f'{{"prompt": "Question {i // 2}?", "chosen": "It is {i}.", "rejected": "No <b>{i}</b>."}}'
        for i in range(24)
    ]
    (root / "pairs.jsonl").write_text("\n".join(rows) + "\n")
    source = {"name": "<b>demo</b>", "path": str(root / "pairs.jsonl")}
    (root / "data.yaml").write_text(yaml.safe_dump({"sources": [source]}))
    (root / "ensemble.yaml").write_text(f"members: [{members[0]}, {members[1]}]\n")
    fixed = ["--dtype", "float32", "--split", "all", "--show-mistakes", "2"]
    paths = ["--data", root / "data.yaml", "--out", root / "out", root / "ensemble.yaml"]
    assert main([*fixed, *map(str, paths)]) == 0
    return root / "out" / "evaluation.html"


@pytest.mark.parametrize("which", ["fresh", "shown"])
def test_it_asks_for_nothing_and_axe_finds_nothing(
    open_page: Callable[..., Page],
    violations: Callable[..., list[str]],
    fresh: Path,
    which: str,
):
    report = fresh if which == "fresh" else SHOWN
    page = open_page(report.as_uri())
    assert page.locator("h1").inner_text() == "Reward model evaluation"
    assert page.locator("svg").count() > 5
    assert violations(page) == []
