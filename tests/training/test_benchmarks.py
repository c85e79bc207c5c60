"""Shapes and figures of public benchmarks."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from plaudit.conversation import Encoder
from training.data.jsonlines import DataError
from training.data.shapes import Pair
from training.data.sources import Source, load
from training.data.splits import Split, sample_rows
from training.evaluate.baselines import length_only
from training.evaluate.benchmarks import figures_of
from training.evaluate.evaluation import choose, fitting
from training.evaluate.figures import prompt_digest
from training.evaluate.styles import DIFFICULTIES, shares
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
        for name, figure in figures_of(shape, pairs, [*map(prompt_digest, pairs)], scores).items()
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
    by_row = shares(chosen, rejected)
    assert by_row.shape == (798, 4)
    for name, value in zip(DIFFICULTIES, by_row.mean(axis=0), strict=True):
        assert found[name] == [pytest.approx(value)]
    assert found["easy"][0] > 0.8 > 0.2 > found["hard"][0]  # richer styles are longer


def judged(subset: str, i: int = 0) -> dict[str, Any]:
    """A row of RewardBench whose responses are their row's and side's names."""
    name = f"{subset} {i}"
    return {
        "prompt": name,
        "chosen": f"{name} c",
        "rejected": f"{name} r",
        "subset": subset,
        "id": i,
    }


def test_sections_of_rewardbench_by_hand(write):
    rows = [judged("mt-bench-easy"), judged("math-prm", 0), judged("math-prm", 1), judged("hep-go")]
    pairs = load(write(rows, "rewardbench")).pairs
    assert [pair.category for pair in pairs] == [row["subset"] for row in rows]
    lead = np.array([1.0, 1.0, 0.0, -1.0])  # the third is a tie, and wrong
    found = values(pairs, {"m": Measured(lead, np.zeros(4))}, "rewardbench")
    weight = 984 / 447
    reasoning = weight / (2 * weight + 1)
    assert found == {"Chat": [1], "Reasoning": [pytest.approx(reasoning)],
                     "mean": [pytest.approx((1 + reasoning) / 2)]}  # fmt: skip


def test_math_prm_weighs_as_much_as_the_code(write):
    rows = [judged("math-prm", i) for i in range(447)]
    rows += [judged(f"hep-{code}", i) for code in ("cpp", "go", "java") for i in range(328)]
    pairs = load(write(rows, "rewardbench")).pairs
    lead = np.array([pair.category == "math-prm" for pair in pairs], float)
    found = values(pairs, {"m": Measured(lead, np.zeros(len(pairs)))}, "rewardbench")
    assert found["Reasoning"] == [pytest.approx(0.5)]


def listed(chosen: list[str], rejected: list[str], subset: str = "Math", **more: Any) -> dict:
    prompt = f"{subset} {chosen}"
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected, "subset": subset, **more}


def test_best_of_four_shares_the_credit_among_those_that_tie_for_the_top(write):
    rows = [
        listed(["5"], ["1", "2", "3"], num_correct=1, total_completions=4),
        listed(["4"], ["4.0", "2", "3"]),
        listed(["0"], ["1", "2", "3"]),
        listed(["7"], ["7.0", "7.00", "7.000"], "Focus"),
    ]
    pairs = load(write(rows, "rewardbench2")).pairs
    scores = Measured(*(np.array([float(getattr(p, side)) for p in pairs]) for side in SIDES))
    found = values(pairs, {"m": scores}, "rewardbench2")
    assert found == {"Math": [pytest.approx(0.5)], "Focus": [0.25], "mean": [pytest.approx(0.375)]}


SIDES = ("chosen", "rejected")
TIED = [
    listed(["5", "4"], ["1", "0"], "Ties", id="tied:1"),
    listed(["3"], ["1"], "Ties", id="ref:1"),
    listed(["5", "2"], ["3", "0"], "Ties", id="tied:2"),
    listed(["1"], ["0"], "Ties", id="ref:2"),
]


def test_the_score_of_ties_by_hand(write):
    pairs = load(write(TIED, "rewardbench2")).pairs
    scores = Measured(*(np.array([float(getattr(p, side)) for p in pairs]) for side in SIDES))
    found = values(pairs, {"m": scores}, "rewardbench2")
    # 1: gap 3, reference 2, spread 1. 2: gap -1, reference 1, spread 3.
    tanh = (np.tanh(2 / 1 - 1) + np.tanh(-1 / 3 - 1)) / 2
    expected = 0.3 * 0.5 + 0.3 * 1 + 0.2 * 0.5 + 0.2 * 0.5 + 0.01 * tanh
    assert found == {"Ties": [pytest.approx(expected)], "mean": [pytest.approx(expected)]}


def test_right_responses_that_score_alike_have_the_largest_margin(write):
    pairs = load(write(TIED[:2], "rewardbench2")).pairs
    right = Measured(np.ones(len(pairs)), np.zeros(len(pairs)))
    level = Measured(np.ones(len(pairs)), np.ones(len(pairs)))  # nothing over nothing
    assert values(pairs, {"m": right, "l": level}, "rewardbench2")["Ties"] == [
        pytest.approx(1.01), 0
    ]  # fmt: skip


@pytest.mark.parametrize(
    "row",
    [
        listed(["1"], ["2"], "Chat"),
        listed(["1"], []),
        listed(["1"], ["2"], num_correct=2),
        listed(["1"], ["2"], total_completions=4),
        listed(["1", "2"], ["3"]),
        listed(["1", "2"], ["3"], "Ties"),
        listed(["1", "2"], ["3"], "Ties", id="ref:1"),
        listed(["1"], ["3"], "Ties", id="tied:1"),
        listed(["1", "2"], ["3"], "Ties", id="tied:x"),
    ],
)
def test_a_row_that_rewardbench_2_cannot_have_is_refused(write, row):
    loaded = load(write([*TIED, row], "rewardbench2"))
    assert [line for line, _ in loaded.refused] == [5]


def test_a_row_of_no_section_is_refused(write):
    loaded = load(write([judged("hep-go"), judged("hep-cobol")], "rewardbench"))
    assert [line for line, _ in loaded.refused] == [2]


def test_best_of_a_list_is_what_no_other_beats(write):
    rows = [
        {"prompt": "a", "responses": ["0", "1", "2"], "better": [[2, 0], [2, 1]]},
        {"prompt": "b", "responses": ["3", "2", "1", "9"], "better": [[0, 2], [1, 2]]},
        {"prompt": "c", "responses": ["1", "2"], "better": [[0, 1], [1, 0]]},  # all are beaten
    ]
    pairs = load(write(rows, "lists")).pairs
    worst = {"0": 9.0, "1": 5.0, "2": 4.0, "3": 5.0}
    best = {"0": 0.0, "1": 1.0, "2": 2.0, "3": 2.0}
    figure = figures_of(
        "lists", pairs, [*map(prompt_digest, pairs)],
        {"best": scored(pairs, best), "worst": scored(pairs, worst)},
    )["best of N"]  # fmt: skip
    # b: "3" and "1" tie for the top by the second score; the response in no comparison has none
    assert [one.value for one in figure.rows.values()] == [1, pytest.approx(0.25)]
    assert figure.chance == pytest.approx((1 / 3 + 2 / 3) / 2)


def test_the_real_lists_of_rmb_and_what_length_alone_finds():
    loaded = load(Source(name="rmb", path=real("rmb_lists"), shape="lists"))
    figure = figures_of(
        "lists", loaded.pairs, [*map(prompt_digest, loaded.pairs)],
        {"length": length_only(loaded.pairs)},
    )["best of N"]  # fmt: skip
    rows = [json.loads(x) for x in gzip.decompress(real("rmb_lists").read_bytes()).splitlines()]
    assert figure.chance == pytest.approx(np.mean([1 / len(row["responses"]) for row in rows]))
    longest = [
        np.argmax([len(text) for text in row["responses"]]) == row["better"][0][0] for row in rows
    ]
    assert figure.rows["length"].value == pytest.approx(np.mean(longest), abs=0.005)  # ties


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


def test_rows_that_do_not_fit_are_dropped_whole(write, tiny_checkpoint):
    longer = STYLED | {"prompt": "Another", "rejected_styles": ["r0", "r1", "r" * 60]}
    pairs = load(write([STYLED, longer], "rm_bench")).pairs
    encoder = Encoder.load(tiny_checkpoint, 64)
    assert {pair.line for pair in fitting({"s": pairs}, [encoder], {"s"})["s"]} == {1}
    assert len(fitting({"s": pairs}, [encoder], set())["s"]) == 9 + 6


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
