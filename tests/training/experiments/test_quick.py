"""The experiments in their quick form, on the real data: the direction must show."""

import json
from pathlib import Path

import pytest

from training.data.sources import DataError
from training.experiments.command import EXPERIMENTS, JUDGED, main
from training.experiments.smollm2 import BASE, MAKE_BASE

DATA = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all, so that those that share judges train them once."""
    return tmp_path_factory.mktemp("experiments")


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_the_quick_form_shows_the_direction(name, out, capsys):
    if not DATA.is_dir():
        pytest.skip(f"no preference data at {DATA}")
    if name in ("lmc", *JUDGED) and not (BASE / "config.json").is_file():
        pytest.skip(f"no {BASE}: {MAKE_BASE}")
    status = main([name, "--data", str(DATA), "--out", str(out), "--quick"])
    assert (status, json.loads((out / f"{name}.json").read_text())["failures"]) == (0, [])
    assert (out / f"{name}.md").read_text() in capsys.readouterr().out
    assert (out / f"{name}.svg").read_text().rstrip().endswith("</svg>")


def test_a_directory_without_the_data_is_named(tmp_path):
    with pytest.raises(DataError, match=r"MANIFEST\.json"):
        main(["kwise", "--data", str(tmp_path)])
