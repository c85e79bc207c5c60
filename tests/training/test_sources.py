"""Pairs read from files of each declared shape, and rows that do not fit."""

import gzip
import hashlib
import json
from pathlib import Path

import datasets
import pytest
from huggingface_hub import constants

from training.data.shapes import LABEL, SHAPES, Pair, columns_of, group_of
from training.data.sources import DataError, Source, load
from training.settings import DataSettings, SettingsError, parse

SECRET = "do not print me"
USER = {"role": "user", "content": "Hi"}
GOOD = {"prompt": [USER], "chosen": "Hello", "rejected": "No"}
TURNS = {"chosen": [USER, {"role": "assistant", "content": "Hello"}]}
TURNS["rejected"] = [USER, {"role": "assistant", "content": "No"}]
# One of each shape.
ROWS = {
    "plaudit": GOOD,
    "transcript": {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello"}
    | {"rejected": "\n\nHuman: Hi\n\nAssistant: No"},
    "messages": TURNS,
    "lists": {"prompt": "Hi", "responses": ["Hello", "No"], "better": [[0, 1]]},
    "win_probabilities": {"prompt": "Hi", "reference": {"text": "Hello"}, "responses": []},
    "rm_bench": {"prompt": "Hi", "chosen_styles": [*"abc"], "rejected_styles": [*"def"]},
    "rewardbench": GOOD | {"subset": "llmbar-natural"},
    "rewardbench2": {"prompt": "Hi", "chosen": ["Hello"], "rejected": ["No"], "subset": "Math"},
}


@pytest.fixture
def write(tmp_path):
    """``write(rows)``: a source of one file; a row that is text is a line as it stands."""

    def _write(rows: list, **settings) -> Source:
        path = tmp_path / "rows.jsonl"
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("".join(line + "\n" for line in lines))
        return Source(name="s", path=path, **settings)

    return _write


EXPECTED = Pair((USER,), "Hello", "No", "s", "s")


def test_plaudit_rows_hold_prompt_chosen_and_rejected(write):
    assert load(write([GOOD])).pairs == [EXPECTED]


def test_a_prompt_may_be_a_string(write):
    assert load(write([GOOD | {"prompt": "Hi"}])).pairs == [EXPECTED]


def test_messages_rows_share_all_but_the_last_turn(write):
    assert load(write([TURNS], shape="messages")).pairs == [EXPECTED]


def test_transcripts_are_cut_into_turns(write):
    row = {
        "chosen": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why\n\nnot?\n\nAssistant: So.",
        "rejected": "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Why\n\nnot?\n\nAssistant: Go!",
    }
    (pair,) = load(write([row], shape="transcript")).pairs
    assert [turn["role"] for turn in pair.prompt] == ["user", "assistant", "user"]
    assert [turn["content"] for turn in pair.prompt] == ["Hi", "Yes?", "Why\n\nnot?"]
    assert (pair.chosen, pair.rejected) == ("So.", "Go!")
    assert pair.first_turn == "Hi"


def test_columns_are_renamed(write):
    row = {"question": "Hi", "good": "Hello", "bad": "No", "topic": "manners"}
    columns = {"prompt": "question", "chosen": "good", "rejected": "bad", "category": "topic"}
    (pair,) = load(write([row], columns=columns)).pairs
    assert (pair.chosen, pair.rejected, pair.category) == ("Hello", "No", "manners")


@pytest.mark.parametrize(
    ("shape", "columns", "said"),
    [
        ("plaudit", {"soft_lable": "p"}, "'soft_lable' is no column .*did you mean 'soft_label'"),
        ("transcript", {"prompt": "q"}, "'prompt' is no column of shape transcript; known: cat"),
        ("lists", {"soft_label": "p"}, "'soft_label' is no column of shape lists"),
        ("rewardbench", {"category": "c"}, "'category' is no column of shape rewardbench"),
    ],
)
def test_a_column_that_the_shape_does_not_read_is_refused(shape, columns, said):
    source = {"name": "s", "path": "pairs.jsonl", "shape": shape, "columns": columns}
    with pytest.raises(SettingsError, match=rf"sources.0: .*columns: {said}"):
        parse(DataSettings, {"sources": [source]}, "plan.yaml")


def test_a_renamed_column_that_no_row_has_is_refused(write):
    rows = [GOOD | {"probability": 0.75}, GOOD | {SECRET: 1}]
    with pytest.raises(DataError, match=r"soft_label .* 'probabilty'.* did you mean 'probability'"):
        load(write(rows, columns={"soft_label": "probabilty"}))
    with pytest.raises(DataError, match=r"soft_label .* 'p', which no row has; name a") as caught:
        load(write(rows, columns={"soft_label": "p"}))
    assert SECRET not in str(caught.value)


def test_a_renamed_column_may_be_missing_from_some_rows(write):
    pairs = load(write([GOOD | {"p": 0.75}, GOOD], columns={"soft_label": "p"})).pairs
    assert [pair.soft_label for pair in pairs] == [0.75, 1.0]


class Asked(dict):
    """Names that rename nothing, and remember for which column they were asked."""

    def __init__(self):
        self.of = set()

    def get(self, name, default=None):
        self.of.add(name)
        return default


@pytest.mark.parametrize("shape", SHAPES)
def test_every_column_that_a_shape_reads_can_be_renamed_and_no_other(shape):
    asked = Asked()
    group_of(ROWS[shape], shape, asked, 1)
    refused = set() if "soft_label" in columns_of(shape) else set(LABEL)
    assert asked.of - refused == set(columns_of(shape))


def test_the_category_is_the_rows_own_or_the_sources_name(write):
    pairs = load(write([GOOD | {"category": "manners"}, GOOD])).pairs
    assert [pair.category for pair in pairs] == ["manners", "s"]


BAD = {
    "not a JSON object": [f'{{"prompt": "{SECRET}', "5", "null", f'"{SECRET}"', "[1]"],
    "no column 'chosen'": [{"prompt": SECRET, "rejected": SECRET}],
    "does not end with a user turn": [
        GOOD | {"prompt": [USER, {"role": "assistant", "content": SECRET}]},
        GOOD | {"prompt": []},
    ],
    "an empty response": [GOOD | {"chosen": "  "}],
    "chosen equals rejected": [GOOD | {"chosen": SECRET, "rejected": SECRET}],
    "a response is list": [GOOD | {"chosen": [SECRET]}],
    "not a list of": [GOOD | {"prompt": 7}, GOOD | {"prompt": [SECRET]}],
    "unknown role": [GOOD | {"prompt": [{"role": SECRET, "content": SECRET}]}],
}


@pytest.mark.parametrize(("reason", "row"), [(why, row) for why in BAD for row in BAD[why]])
def test_a_row_that_does_not_fit_is_refused_with_a_reason_without_its_text(write, reason, row):
    loaded = load(write([GOOD, row]))
    assert len(loaded.pairs) == 1
    ((line, said),) = loaded.refused
    assert line == 2
    assert reason in said
    assert SECRET not in said


@pytest.mark.parametrize(
    ("shape", "chosen", "rejected", "reason"),
    [
        ("transcript", SECRET, SECRET, "not a Human/Assistant transcript"),
        (
            "transcript",
            f"\n\nHuman: {SECRET}\n\nAssistant: a",
            "\n\nHuman: other\n\nAssistant: b",
            "differ before their last turn",
        ),
        (
            "transcript",
            f"\n\nHuman: a\n\nAssistant: b\n\nHuman: {SECRET}",
            "\n\nHuman: a\n\nAssistant: b\n\nHuman: c",
            "last turn is not the assistant's",
        ),
        ("messages", [], [], "differ before their last turn"),
    ],
)
def test_halves_that_do_not_belong_together_are_refused(write, shape, chosen, rejected, reason):
    with pytest.raises(DataError, match=reason) as caught:
        load(write([{"chosen": chosen, "rejected": rejected}], shape=shape))
    assert SECRET not in str(caught.value)


def test_refused_rows_are_counted_with_their_lines(write):
    rows = [GOOD, "{", "", GOOD, *[GOOD | {"chosen": ""}] * 12]
    loaded = load(write(rows))
    assert len(loaded.pairs) == 2
    assert [line for line, _ in loaded.refused] == [2, *range(5, 17)]
    report = loaded.report()
    assert report.startswith("s: 2 pairs, 13 refused")
    assert "'an empty response': 12" in report
    assert "lines 2, 5, 6, 7, 8, 9, 10, 11, 12, 13, …" in report


def test_a_source_of_which_nothing_fits_is_refused(write):
    with pytest.raises(DataError, match="nothing fits shape 'plaudit'"):
        load(write(["{"]))


def test_a_changed_file_is_refused(write):
    source = write([GOOD])
    digest = hashlib.sha256(source.path.read_bytes()).hexdigest()
    assert load(source.model_copy(update={"sha256": digest})).digest == f"sha256:{digest}"
    source.path.write_text(source.path.read_text() + "\n")
    with pytest.raises(DataError, match="the file changed"):
        load(source.model_copy(update={"sha256": digest}))


def test_a_missing_file_is_named(tmp_path):
    path = tmp_path / "none.jsonl"
    with pytest.raises(DataError, match=str(path)):
        load(Source(name="s", path=path))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "neither is given of path"),
        ({"path": "pairs.jsonl", "hub": "owner/pairs"}, "both are given of path"),
        ({"hub": "owner/pairs", "sha256": "d67a"}, "sha256 is of a file"),
    ],
)
def test_a_source_is_one_file_or_one_hub_dataset(given, said):
    with pytest.raises(SettingsError, match=rf"plan.yaml: sources.0: .*{said}"):
        parse(DataSettings, {"sources": [{"name": "s"} | given]}, "plan.yaml")


def test_gzip_is_read_as_the_text_inside(write, tmp_path):
    source = write([GOOD, GOOD | {"chosen": "Hey"}])
    packed = tmp_path / "rows.jsonl.gz"
    packed.write_bytes(gzip.compress(Path(source.path).read_bytes()))
    assert load(Source(name="s", path=packed)).pairs == load(source).pairs


def test_a_hub_dataset_is_read_like_a_file_of_its_rows(write, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [GOOD | {"p": 0.75}, GOOD | {"chosen": "", "p": 0.5}, GOOD | {"p": None}]
    file = write(rows, columns={"soft_label": "p"})
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "train.jsonl").write_text(json.dumps(rows[0]) + "\n")
    (hub / "test.jsonl").write_bytes(file.path.read_bytes())
    source = Source(name="s", hub=str(hub), hub_split="test", columns=file.columns)
    loaded = load(source)
    assert loaded.pairs == load(file).pairs
    assert loaded.refused == [(2, "an empty response")]
    assert loaded.digest.startswith("fingerprint:")
    with pytest.raises(DataError, match=r"soft_label .* 'q', which no row has"):
        load(source.model_copy(update={"columns": {"soft_label": "q"}}))


def test_a_hub_dataset_that_is_not_to_be_had_is_named(write, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub = tmp_path / "hub"
    hub.mkdir()
    (hub / "train.jsonl").write_bytes(write([GOOD]).path.read_bytes())
    for name, split in (("owner/none", "train"), (str(tmp_path / "none"), "train"), (hub, "test")):
        said = f"s: no dataset {name} with a split {split} .*correct hub or hub_split"
        with pytest.raises(DataError, match=said):
            load(Source(name="s", hub=str(name), hub_split=split))


def test_separators_inside_a_string_do_not_break_lines(write):
    text = "one\u2028two\u2029three\u0085four"
    line = json.dumps(GOOD | {"chosen": text}, ensure_ascii=False)
    loaded = load(write([line, GOOD]))
    assert loaded.refused == []
    assert [pair.chosen for pair in loaded.pairs] == [text, "Hello"]


def test_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"".join(json.dumps(GOOD).encode() + b"\r\n" for _ in range(2)))
    assert load(Source(name="s", path=path)).pairs == [EXPECTED, EXPECTED]


LIST = {"prompt": [USER], "responses": ["Hello", "Hi", "No"], "better": [[0, 2], [1, 2]]}


def test_a_list_gives_a_pair_for_each_comparison_and_none_for_a_tie(write):
    pairs = load(write([LIST], shape="lists")).pairs
    assert [(pair.chosen, pair.rejected) for pair in pairs] == [("Hello", "No"), ("Hi", "No")]


@pytest.mark.parametrize("better", [[[0, 3]], [[-1, 0]], [[0]], [0, 1], "01", [["0", "1"]]])
def test_comparisons_of_responses_that_are_not_there_are_refused(write, better):
    loaded = load(write([LIST, LIST | {"better": better}], shape="lists"))
    assert len(loaded.pairs) == 2
    ((line, reason),) = loaded.refused
    assert (line, reason.partition(" ")[0]) == (2, "better")


def test_one_comparison_that_does_not_fit_costs_no_other(write):
    loaded = load(write([LIST | {"responses": ["Hello", " ", "No"]}], shape="lists"))
    assert [pair.chosen for pair in loaded.pairs] == ["Hello"]
    assert loaded.refused == [(1, "an empty response")]


def graded(text: str, wins: float) -> dict:
    return {"text": text, "win_probability": wins}


def test_win_probabilities_are_soft_labels_of_the_side_they_favour(write):
    row = {
        "prompt": "Hi",
        "reference": {"text": "Hello"},
        "responses": [graded("Hey", 0.75), graded("No", 0.125), graded("Hm", 0.5)],
    }
    row["responses"].append(graded("Hello", 0.9))  # the reference itself
    pairs = load(write([row], shape="win_probabilities")).pairs
    assert [(p.chosen, p.rejected, p.soft_label) for p in pairs] == [
        ("Hey", "Hello", 0.75),
        ("Hello", "No", 0.875),
    ]


def test_what_is_known_of_the_label_is_read(write):
    row = GOOD | {"margin": -0.5, "soft_label": 0.75, "id": 7}
    (pair,) = load(write([row], columns={"target_margin": "margin"})).pairs
    assert (pair.target_margin, pair.soft_label, pair.rest) == (-0.5, 0.75, {"id": 7})


def test_a_label_that_is_probably_wrong_changes_the_sides(write):
    (pair,) = load(write([GOOD | {"soft_label": 0.25, "target_margin": 2.0}])).pairs
    assert (pair.chosen, pair.rejected) == ("No", "Hello")
    assert (pair.soft_label, pair.target_margin) == (0.75, -2.0)


def test_an_empty_column_is_none(write):
    nothing = {"soft_label": None, "target_margin": None, "category": None}
    assert load(write([GOOD | nothing])).pairs == [EXPECTED]


def test_a_list_has_no_label_of_its_own(write):
    loaded = load(write([LIST, LIST | {"soft_label": 0.9}], shape="lists"))
    ((line, reason),) = loaded.refused
    assert (line, len(loaded.pairs)) == (2, 2)
    assert "several pairs" in reason


@pytest.mark.parametrize(
    ("column", "value"),
    [("soft_label", 1.5), ("soft_label", "1"), ("soft_label", True), ("target_margin", 10**400)],
)
def test_a_label_that_is_no_number_is_refused(write, column, value):
    loaded = load(write([GOOD, GOOD | {column: value}]))
    ((line, reason),) = loaded.refused
    assert (line, reason.split()[0]) == (2, column)


def test_what_was_cut_is_marked_also_where_the_sides_change_places(write):
    cut = GOOD | {"chosen_finished": False}
    turned = cut | {"soft_label": 0.25}
    found = load(write([GOOD, cut, turned])).pairs
    assert [pair.finished for pair in found] == [(True, True), (False, True), (True, False)]
    assert found[1].rest == {}
    [(line, reason)] = load(write([GOOD, GOOD | {"rejected_finished": "no"}])).refused
    assert (line, reason) == (2, "chosen_finished or rejected_finished is not true or false")
