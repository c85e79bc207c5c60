"""The experiments in their quick form, on the real data: the direction must show."""

import json
from pathlib import Path

import pytest

from training.data.sources import DataError
from training.experiments import lmc
from training.experiments.command import EXPERIMENTS, main

DATA = Path(__file__).parents[3].parent / "shared" / "data"


@pytest.mark.parametrize("name", sorted(EXPERIMENTS))
def test_the_quick_form_shows_the_direction(name, tmp_path, capsys):
    if not DATA.is_dir():
        pytest.skip(f"no preference data at {DATA}")
    if name == "lmc" and not (lmc.BASE / "config.json").is_file():
        pytest.skip(f"no {lmc.BASE}: {lmc.MAKE_BASE}")
    status = main([name, "--data", str(DATA), "--out", str(tmp_path), "--quick"])
    assert (status, json.loads((tmp_path / f"{name}.json").read_text())["failures"]) == (0, [])
    assert (tmp_path / f"{name}.md").read_text() in capsys.readouterr().out
    assert (tmp_path / f"{name}.svg").read_text().rstrip().endswith("</svg>")


def test_a_directory_without_the_data_is_named(tmp_path):
    with pytest.raises(DataError, match=r"MANIFEST\.json"):
        main(["kwise", "--data", str(tmp_path)])
