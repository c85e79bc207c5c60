"""``bench/engines.py`` on a tiny model and made-up rows: its figures hang together."""

import gzip
import json
import sys
from pathlib import Path

import engines
import pytest
from contestants import LIMIT, UNSHARED
from loads import load

from plaudit.conversation import Encoder
from plaudit.packing import shared

QUESTION = [{"role": "user", "content": "Which of these numbers is the largest one?"}]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """One prompt with 16 answers whose first words differ, and conversations with two each."""
    answers = [{"text": f"{chr(97 + i) * 3} is it, since {i} is." + " So." * i} for i in range(16)]
    pairs = [
        {
            "prompt": [{"role": "user", "content": f"{i} or {i + 1}?"}],
            "chosen": "b",
            "rejected": "a",
        }
        for i in range(8)
    ]
    write(tmp_path / "alpacaeval_lists.jsonl.gz", [{"prompt": QUESTION, "responses": answers}])
    write(tmp_path / "hh_helpful.jsonl.gz", pairs)
    return tmp_path


def write(path: Path, rows: list[dict[str, object]]) -> None:
    with gzip.open(path, "wt") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)


def test_its_figures_hang_together(
    data: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    figures, plot = data / "figures.json", data / "plot.svg"
    monkeypatch.setattr(sys, "argv", [
        "engines.py", "--model", str(tiny_checkpoint), "--data", str(data), "--size", "1",
        "--repeats", "1", "--loads", "groups of 16", "--json", str(figures), "--plot", str(plot),
    ])  # fmt: skip
    engines.main()

    (found,) = json.loads(figures.read_text())
    sequences = load("groups of 16", Encoder.load(tiny_checkpoint, 4096), data, 1)
    useful = sum(map(len, sequences))
    prompt = min(shared(sequences[0], other) for other in sequences[1:])
    assert (found["sequences"], found["useful_tokens"]) == (16, useful)
    assert found["computed_share"] == pytest.approx((useful - 15 * prompt) / useful)
    speed = found["tokens_per_second"]
    for who, ratio in found["ratio"].items():
        assert ratio == pytest.approx(speed["plaudit"] / speed[who])
    assert found["of_limit"] == pytest.approx(speed[UNSHARED] / speed[LIMIT])
    head, _, row = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert head.count("|") == row.count("|")
    assert "useful tokens a second" in plot.read_text()
