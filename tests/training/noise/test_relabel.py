"""The command that treats a file of strengths: what it writes, and what it refuses unwritten."""

import json

import pytest

from training.noise.relabel import main


@pytest.fixture
def rows() -> list[dict]:
    """Thirty pairs; the ten weakest are mislabelled."""
    return [
        {
            "prompt": "Hi",
            "chosen": f"good {i}",
            "rejected": f"bad {i}",
            "mean_diff": (i - 10) / 10,
            "std_diff": abs(i - 15) / 10,
            "wrong": i < 10,
        }
        for i in range(30)
    ]


@pytest.fixture
def relabel(tmp_path):
    """``relabel(rows, *options)``: the rows that come out."""

    def _relabel(rows: list[dict], *options: str, out: str = "out.jsonl") -> list[dict]:
        path = tmp_path / "strength.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert main([str(path), "--out", str(tmp_path / out), *options]) == 0
        return [json.loads(line) for line in (tmp_path / out).read_text().splitlines()]

    return _relabel


def test_the_summary_says_what_was_done_and_what_strength_shows(relabel, rows, tmp_path):
    found = relabel(rows, "--flip", "0:0.2", "--drop", "0.2:.3", "--wrong", "wrong")
    summary = json.loads((tmp_path / "out.json").read_text())
    assert (summary["pairs"], summary["written"], len(found)) == (30, 27, 27)
    assert summary["treated"] == {"flip": 6}
    strength = summary["strength"]
    assert strength["auc"] == 1.0
    assert strength["wrong_by_decile"] == pytest.approx([1, 1, 1, 1 / 3, 0, 0, 0, 0, 0, 0])
    assert strength["below_zero"] == pytest.approx(1 / 3)
    # 20 groups of two or one pair: the deviation falls to the middle and rises again.
    assert len(strength["deviations"]) == 20
    assert min(strength["deviations"]) < min(strength["deviations"][0], strength["deviations"][-1])
    assert "share of right labels" in (tmp_path / "out.svg").read_text()


def test_what_was_only_looked_at_can_still_be_treated(relabel, rows):
    looked_at = relabel(rows)
    assert looked_at == rows
    treated = relabel(looked_at, "--flip", "0:0.2")
    assert sum(row["treatments"] == ["flip"] for row in treated) == 6


def test_without_known_labels_there_is_no_agreement(relabel, rows, tmp_path):
    relabel(rows[:3])
    strength = json.loads((tmp_path / "out.json").read_text())["strength"]
    assert (strength["auc"], len(strength["means"])) == (None, 3)
    assert "share of right labels" not in (tmp_path / "out.svg").read_text()


@pytest.mark.parametrize("name", ["strength.jsonl", "strength.json"])
def test_the_file_of_strengths_is_not_overwritten(rows, tmp_path, monkeypatch, name):
    """Nor by the summary beside the new file."""
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    before = path.read_bytes()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=rf"strength\.jsonl would be written over {path}"):
        main([str(path), "--out", "strength.jsonl", "--drop", "0:0.5"])
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--flip", "0.2:0.1"], "LOW below HIGH"),
        (["--flip", "0:1.5"], "within 0:1"),
        (["--flip", "0:0.1=1"], "write LOW:HIGH"),
        (["--flip", "weakest"], "write LOW:HIGH"),
        (["--margin", "0:1"], "write LOW:HIGH=SCALE"),
        (["--smooth", "0:1=1"], "between 0 and 1"),
        (["--flip", "0:0.2", "--drop", "0.1:0.3"], "overlap"),
        (["--wrong", "flipped"], "line 1: no column flipped"),
        (["--wrong", "chosen"], "row 1: chosen is to be true or false"),
    ],
)
def test_what_cannot_be_done_is_refused_and_nothing_is_written(
    relabel, rows, tmp_path, options, said
):
    with pytest.raises(ValueError, match=said):
        relabel(rows, *options)
    assert [path.name for path in tmp_path.iterdir()] == ["strength.jsonl"]


@pytest.mark.parametrize("out", ["out.json", "out.svg", "out.jsonl.gz", "out"])
def test_a_name_that_would_be_read_as_something_else_is_refused(relabel, rows, tmp_path, out):
    with pytest.raises(ValueError, match=r"name the file \.jsonl"):
        relabel(rows, out=out)
    assert [path.name for path in tmp_path.iterdir()] == ["strength.jsonl"]


@pytest.mark.parametrize("value", [float("nan"), "1.0", None])
def test_a_strength_that_is_no_number_is_refused_with_its_row(relabel, rows, value):
    rows[4]["mean_diff"] = value
    with pytest.raises(ValueError, match="row 5: mean_diff and std_diff"):
        relabel(rows)


@pytest.mark.parametrize("option", ["--flip", "--drop"])
def test_rows_treated_before_are_refused(relabel, rows, tmp_path, option):
    treated = relabel(rows, option, "0:0.1")
    with pytest.raises(ValueError, match="treated before"):
        relabel(treated, "--flip", "0:0.1", out="again.jsonl")
    assert not (tmp_path / "again.jsonl").exists()


def test_a_file_without_rows_is_refused(relabel):
    with pytest.raises(ValueError, match=r"strength\.jsonl: no row in it"):
        relabel([])
