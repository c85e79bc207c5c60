"""Files of candidates, and prompts of any file that has some."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.data import unlabelled
from training.data.jsonlines import DataError
from training.data.splits import Split
from training.policy import candidates, prompts
from training.policy.candidates import Candidates, of_row, row_of
from training.policy.prompts import PromptFile

TURNS = ({"role": "user", "content": "Hi"},)


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@st.composite
def some_candidates(draw) -> Candidates:
    text = st.text(st.characters(exclude_categories=["Cs"]))
    responses = draw(st.lists(text, min_size=1, max_size=4))

    def beside(value):
        row = st.lists(value, min_size=len(responses), max_size=len(responses)).map(tuple)
        return draw(st.none() | row)

    return Candidates(
        ({"role": "system", "content": draw(text)}, {"role": "user", "content": draw(text)}),
        tuple(responses),
        beside(text),
        beside(st.booleans()),
        beside(st.none() | st.floats(-1e6, 1e6)),
        draw(st.none() | text),
    )


@given(some_candidates())
def test_a_row_comes_back_as_it_was_written(one):
    assert of_row(json.loads(json.dumps(row_of(one)))) == one


def test_a_file_of_candidates_is_one_of_unlabelled_responses(tmp_path):
    path = tmp_path / "some.jsonl"
    candidates.write(
        path, [Candidates(TURNS, ("a", "b"), rewards=(0.5, None), revision="sha256:1")]
    )
    (one,) = unlabelled.load(path).prompts
    assert (one.prompt, one.responses) == (TURNS, ("a", "b"))


def test_what_does_not_fit_is_told_with_its_line_and_never_its_text(tmp_path):
    fit = {"prompt": "Hi", "responses": ["secret"]}
    path = write(
        tmp_path / "some.jsonl",
        fit,
        fit | {"rewards": [1.0, 2.0]},
        fit | {"rewards": ["high"]},
        fit | {"finished": [1]},
        fit | {"responses": []},
        {"prompt": "Hi"},
        "no row",
    )
    found = candidates.load(path)
    assert [line for line, _ in found.refused] == [2, 3, 4, 5, 6, 7]
    assert "6 refused" in found.report()
    assert "rewards are 2, the responses 1" in found.report()
    assert "secret" not in found.report()
    with pytest.raises(DataError, match="have it made again"):
        candidates.read(path)


def test_null_is_no_reward_and_kept_as_such(tmp_path):
    path = tmp_path / "some.jsonl"
    candidates.write(path, [Candidates(TURNS, ("a", "b", "c"), rewards=(None, 0.0, -1.0))])
    (one,) = candidates.read(path)
    assert one.known() == [(1, 0.0), (2, -1.0)]
    assert one.keep([2, 0]).rewards == (-1.0, None)
    with pytest.raises(DataError, match="without rewards"):
        Candidates(TURNS, ("a",)).known()


def test_prompts_are_distinct_by_their_first_user_turn(tmp_path):
    again = [*TURNS, {"role": "assistant", "content": "Hey"}, {"role": "user", "content": "Well?"}]
    path = write(
        tmp_path / "pairs.jsonl",
        {"prompt": list(TURNS), "chosen": "a", "rejected": "b"},
        {"prompt": again, "chosen": "a", "rejected": "b"},
        {"prompt": "Why?", "responses": []},
        {"prompt": again[:2]},
    )
    found = prompts.load(path)
    assert [one.first_turn for one in found] == ["Hi", "Why?"]
    assert found[0].turns == TURNS


def test_prompts_of_a_side_within_a_limit_are_chosen_by_digest_alone(questions):
    found = prompts.load(questions)
    split = Split(validation=0.2, test=0.3)
    sides = [prompts.on_side(found, split, side) for side in ("train", "validation", "test")]
    assert sorted(map(len, sides)) != [0, 0, 24]
    assert sum(map(len, sides)) == len(prompts.on_side(found, split, None)) == 24
    file = PromptFile(path=questions, max_tokens=30, max_prompts=5)

    def tokens(one):
        return len(one.first_turn)

    chosen = prompts.choose(found, file, tokens)
    assert len(chosen) == 5
    assert all(tokens(one) <= 30 for one in chosen)
    assert {one.key for one in prompts.choose(found[::-1], file, tokens)} == {
        one.key for one in chosen
    }
    with pytest.raises(DataError, match="none of 24 prompts has at most 3 tokens"):
        prompts.choose(found, PromptFile(path=questions, max_tokens=3), tokens)
