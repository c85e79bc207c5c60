"""Shapes and figures of public benchmarks."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from training.data.jsonlines import DataError
from training.data.shapes import Pair
from training.data.sources import Source, load
from training.data.splits import Split, sample_rows
from training.evaluate.baselines import length_only
from training.evaluate.benchmarks import figures_of
from training.evaluate.evaluation import choose
from training.evaluate.styles import accuracy_by_difficulty, shares
from training.measure import Measured
from training.settings import TrainSettings
from training.train import train

DATA = Path(__file__).parents[2].parent / "shared" / "data"


def real(name: str) -> Path:
    path = DATA / f"{name}.jsonl.gz"
    if not path.is_file():
        pytest.skip(f"no preference data at {DATA}")
    return path


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Source]:
    """``write(rows, shape)``: a source of one file."""

    def _write(rows: list[dict[str, Any]], shape: str, **settings: Any) -> Source:
        path = tmp_path / f"{shape}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return Source.model_validate({"name": "s", "path": path, "shape": shape, **settings})

    return _write


def values(pairs: list[Pair], scores: dict[str, Measured], shape: Any) -> dict[str, list[float]]:
    return {
        name: [estimate.value for estimate in figure.rows.values()]
        for name, figure in figures_of(
            shape, pairs, [pair.first_turn for pair in pairs], scores
        ).items()
    }


def scored(pairs: list[Pair], scores: dict[str, float]) -> Measured:
    """Scores given by response."""
    return Measured(
        np.array([scores[pair.chosen] for pair in pairs]),
        np.array([scores[pair.rejected] for pair in pairs]),
    )


STYLED = {
    "prompt": "Hi",
    "chosen_styles": ["c0", "c1", "c2"],
    "rejected_styles": ["r0", "r1", "r2"],
    "category": "chat",
}


def test_a_row_of_rm_bench_is_nine_pairs(write):
    pairs = load(write([STYLED], "rm_bench")).pairs
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [
        (f"c{i}", f"r{j}") for i in range(3) for j in range(3)
    ]
    assert {pair.category for pair in pairs} == {"chat"}


def test_the_original_file_s_columns_are_renamed(write):
    row = {"prompt": "Hi", "chosen": ["a", "b", "c"], "rejected": ["d", "e", "f"], "domain": "code"}
    columns = {"chosen_styles": "chosen", "rejected_styles": "rejected", "category": "domain"}
    pairs = load(write([row], "rm_bench", columns=columns)).pairs
    assert len(pairs) == 9
    assert pairs[0].category == "code"


@pytest.mark.parametrize(
    "change",
    [
        {"chosen_styles": ["c0", "c1"]},
        {"chosen_styles": ["c0", "c1", "r2"]},  # the row of nine would be one of eight
        {"rejected_styles": ["r0", " ", "r2"]},
        {"rejected_styles": "r0"},
        {"soft_label": 0.9},
    ],
)
def test_a_row_of_a_benchmark_that_does_not_fit_whole_is_refused_once(write, change):
    loaded = load(write([STYLED, STYLED | change], "rm_bench"))
    assert len(loaded.pairs) == 9
    assert [line for line, _ in loaded.refused] == [2]


def test_figures_of_rm_bench_by_hand(write):
    pairs = load(write([STYLED], "rm_bench")).pairs
    style = {"c0": 0.0, "r0": 0.0, "c1": 1.0, "r1": 1.0, "c2": 2.0, "r2": 2.0}
    right = style | {"c0": 3.0}
    found = values(pairs, {"style": scored(pairs, style), "m": scored(pairs, right)}, "rm_bench")
    assert found["easy"] == [1, 1]
    assert found["normal"] == [0, pytest.approx(1 / 3)]
    assert found["hard"] == [0, pytest.approx(2 / 3)]
    assert found["average"] == [pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert found["concise over markdown"] == [0, 1]
    assert found["markdown over concise"] == [1, 1]


def test_the_real_rows_of_rm_bench_and_what_length_alone_finds():
    loaded = load(Source(name="rm", path=real("bench_rm_bench"), shape="rm_bench"))
    assert (len(loaded.pairs), loaded.refused) == (798 * 9, [])
    found = values(loaded.pairs, {"length": length_only(loaded.pairs)}, "rm_bench")
    text = gzip.decompress(real("bench_rm_bench").read_bytes())
    rows = [json.loads(line) for line in text.splitlines()]
    chosen, rejected = (
        np.array([[len(text) for text in row[side]] for row in rows])
        for side in ("chosen_styles", "rejected_styles")
    )
    for name, value in accuracy_by_difficulty(chosen, rejected).items():
        assert found[name] == [pytest.approx(value)]
    assert found["easy"][0] > 0.8 > 0.2 > found["hard"][0]  # richer styles are longer
    assert shares(chosen, rejected).shape == (798, 4)


@pytest.mark.parametrize("side", ["train", "validation", "test", "all"])
def test_a_benchmark_is_measured_whole_on_any_side(write, side):
    rows = [STYLED | {"prompt": f"Question {i}"} for i in range(20)]
    loaded = [load(write(rows, "rm_bench"))]
    assert len(choose(loaded, Split(), side)["s"]) == 180
    plain = [{"prompt": f"Q {i}", "chosen": "a", "rejected": "b"} for i in range(20)]
    loaded = [load(write(plain, "plaudit", side="benchmark"))]
    assert len(choose(loaded, Split(), side)["s"]) == 20


def test_rows_of_a_benchmark_are_sampled_whole(write):
    rows = [STYLED | {"prompt": f"Question {i}"} for i in range(20)]
    pairs = load(write(rows, "rm_bench")).pairs
    found = sample_rows(pairs, 30)
    assert len(found) == 27
    assert [pair for pair in pairs if pair in found] == found
    assert set(map(id, sample_rows(pairs, 1))) <= set(map(id, found))
    assert len(sample_rows(pairs, 1)) == 9


@pytest.mark.parametrize("shape", ["rm_bench", "plaudit"])
def test_a_benchmark_is_not_trained_on(
    write: Callable[..., Source],
    tmp_path: Path,
    configure: Callable[..., TrainSettings],
    easy_pairs: Path,
    shape: str,
):
    rows = {"rm_bench": STYLED, "plaudit": {"prompt": "Hi", "chosen": "a", "rejected": "b"}}
    side = {} if shape == "rm_bench" else {"side": "benchmark"}
    sources = [Source(name="easy", path=easy_pairs), write([rows[shape]], shape, **side)]
    with pytest.raises(DataError, match="s: a benchmark, which is never trained on"):
        train(configure(tmp_path / "out", sources=sources))


def test_a_benchmark_s_shape_takes_no_side(write):
    with pytest.raises(ValidationError, match="leave side out"):
        write([STYLED], "rm_bench", side="train")
