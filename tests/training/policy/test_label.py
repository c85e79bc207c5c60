"""Pairs from rewards: which two, which are left out, and old pairs labelled again."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.client import RewardClient
from training.data import sources
from training.data.jsonlines import DataError
from training.data.sources import Source
from training.policy.label import main
from training.policy.labelling import (
    CLOSE,
    DIVIDED,
    FEW,
    Judged,
    Least,
    best_and_worst,
    fault,
    ordered,
)

PROMPT = [{"role": "user", "content": "Why?"}]


def judged(*rewards: float | None) -> list[Judged]:
    return [Judged(f"response {place}", one) for place, one in enumerate(rewards)]


def test_the_best_and_the_worst_of_those_with_a_reward_make_the_pair():
    found = best_and_worst(judged(0.5, None, 2.0, -1.0))
    assert found is not None
    assert (found.chosen.text, found.rejected.text) == ("response 2", "response 3")
    assert (found.gap, found.agreement) == (3.0, None)


@pytest.mark.parametrize("rewards", [(), (None, None), (1.0,), (1.0, None)])
def test_one_response_makes_no_pair(rewards):
    assert fault(best_and_worst(judged(*rewards)), Least()) == FEW


@given(st.lists(st.none() | st.floats(-1e3, 1e3), max_size=8))
def test_no_response_with_a_reward_is_outside_the_pair(rewards):
    found = best_and_worst(judged(*rewards))
    known = [one for one in rewards if one is not None]
    if found is not None:
        assert all(found.rejected.reward <= one <= found.chosen.reward for one in known)
    else:
        assert len(known) < 2


def test_responses_of_equal_rewards_are_too_close_and_not_too_few():
    assert fault(best_and_worst(judged(1.0, 1.0, None)), Least()) == CLOSE


def test_members_agree_each_on_their_own_scale_and_a_tie_is_no_agreement():
    chosen = Judged("good", 1.0, (900.0, 0.2, 1.0, None, 3.0))
    rejected = Judged("bad", 0.0, (800.0, 0.1, 1.0, 5.0, 4.0))
    found = ordered(rejected, chosen)
    assert found is not None
    assert (found.chosen.text, found.agreement) == ("good", 2 / 4)
    assert fault(found, Least(agreement=0.5)) is None
    assert fault(found, Least(agreement=0.6)) == DIVIDED
    assert fault(found, Least(gap=1.1)) == CLOSE


def test_where_no_member_scored_both_none_agrees():
    found = ordered(Judged("good", 1.0, (None, 2.0)), Judged("bad", 0.0, (1.0, None)))
    assert found is not None
    assert found.agreement is None
    assert fault(found, Least()) is None
    assert fault(found, Least(agreement=0.1)) == DIVIDED


def test_equal_rewards_prefer_nothing():
    assert fault(ordered(*judged(1.0, 1.0)), Least()) == CLOSE


def label(file: Path, out: Path, url: str, *flags: str) -> tuple[list[dict[str, Any]], Any]:
    assert main([str(file), "--url", url, "--model", "ensemble", "--out", str(out), *flags]) == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    return rows, json.loads(out.with_suffix(".json").read_text())


@pytest.fixture
def candidates(tmp_path) -> Path:
    path = tmp_path / "candidates.jsonl"
    rows = [
        {"prompt": PROMPT, "responses": ["Because.", "No!!", "So it is, I think.", "No!!", ""]},
        {"prompt": PROMPT, "responses": ["Only one.", "Only one."]},
        {"prompt": PROMPT, "responses": ["x" * 600, "Short."]},  # over the limit
        {"prompt": PROMPT, "responses": ["Yes.", "Maybe so."]},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_candidates_become_pairs_that_training_reads(candidates, served, tmp_path):
    rows, report = label(candidates, tmp_path / "pairs.jsonl", served.url)
    assert report["left_out"] == {FEW: 2}
    assert report["pairs"] == len(rows) == 2
    with RewardClient(served.url) as client:
        texts = ["Because.", "No!!", "So it is, I think."]
        answer = client.ensemble_score([(PROMPT, text) for text in texts])
        of_members = [
            client.score([(PROMPT, text) for text in texts], model=one.name).rewards
            for one in answer.members
        ]
    best, worst = (texts[answer.rewards.index(pick(answer.rewards))] for pick in (max, min))
    assert (rows[0]["chosen"], rows[0]["rejected"]) == (best, worst)
    agree = [own[texts.index(best)] > own[texts.index(worst)] for own in of_members]
    assert rows[0]["agreement"] == sum(agree) / 3
    assert rows[0]["revision"] == report["scorer"]["revision"] == answer.revision
    loaded = sources.load(Source(name="pairs", path=tmp_path / "pairs.jsonl"))
    assert [pair.chosen for pair in loaded.pairs] == [row["chosen"] for row in rows]


def test_the_candidates_and_what_they_are_of_are_not_overwritten(candidates, tmp_path):
    before = candidates.read_bytes()
    run = tmp_path / "candidates.json"
    run.write_text("what plaudit generate was told")
    with pytest.raises(DataError, match=r"would be written over .*candidates\.jsonl"):
        main([str(candidates), "--url", "http://nowhere.invalid", "--out", str(candidates)])
    assert candidates.read_bytes() == before
    assert run.read_text() == "what plaudit generate was told"


def test_the_least_gap_and_agreement_leave_pairs_out(candidates, served, tmp_path):
    every, _ = label(candidates, tmp_path / "every.jsonl", served.url)
    gaps = [row["chosen_reward"] - row["rejected_reward"] for row in every]
    flags = ["--min-gap", str(max(gaps))]
    kept, report = label(candidates, tmp_path / "kept.jsonl", served.url, *flags)
    assert kept == [every[gaps.index(max(gaps))]]
    assert report["left_out"] == {FEW: 2, CLOSE: 1}
    with pytest.raises(DataError, match="no pair is left of"):
        label(candidates, tmp_path / "none.jsonl", served.url, "--min-gap", "1000")


def test_old_pairs_are_turned_where_the_service_says_so(candidates, served, tmp_path):
    made, _ = label(candidates, tmp_path / "pairs.jsonl", served.url)
    right, wrong = made
    old = tmp_path / "old.jsonl"
    turned = wrong | {
        "chosen": wrong["rejected"], "rejected": wrong["chosen"],
        "soft_label": 0.9, "mean_diff": 2.0, "category": "why", "who": "Ann",
    }  # fmt: skip
    old.write_text("".join(json.dumps(row) + "\n" for row in (right, turned)))
    again, report = label(old, tmp_path / "again.jsonl", served.url, "--shape", "plaudit")
    assert report["swapped"] == 1
    assert [row["chosen"] for row in again] == [right["chosen"], wrong["chosen"]]
    assert again[1]["category"] == "why"
    assert again[1]["who"] == "Ann"
    assert not {"soft_label", "mean_diff"} & again[1].keys()


def test_a_pair_stays_of_the_conversation_that_was_rewarded(served, tmp_path):
    turns = [
        *PROMPT,
        {"role": "assistant", "content": "Who asks?"},
        {"role": "user", "content": "I."},
    ]
    said = {
        side: [*turns, {"role": "assistant", "content": text}]
        for side, text in {"chosen": "Because.", "rejected": "No!!"}.items()
    }
    old = tmp_path / "old.jsonl"
    old.write_text(json.dumps(said | {"prompt": "Another column.", "prompt_id": "7"}))
    [row], _ = label(old, tmp_path / "again.jsonl", served.url, "--shape", "messages")
    assert row["prompt"] == turns
    assert row["prompt_id"] == "7"
    with RewardClient(served.url) as client:
        asked = [(turns, row[side]) for side in ("chosen", "rejected")]
        rewards = client.ensemble_score(asked).rewards
    assert [row["chosen_reward"], row["rejected_reward"]] == rewards


def test_nothing_said_of_the_old_label_is_left(candidates, served, tmp_path, members):
    made, _ = label(candidates, tmp_path / "pairs.jsonl", served.url)
    assert all("agreement" in row for row in made)
    old = tmp_path / "old.jsonl"
    old.write_text("".join(json.dumps(row | {"treatments": ["flip"]}) + "\n" for row in made))
    flags = ["--shape", "plaudit", "--model", members[0].name]
    again, _ = label(old, tmp_path / "again.jsonl", served.url, *flags)
    assert not any({"agreement", "treatments"} & row.keys() for row in again)


def test_what_was_cut_stays_marked_also_where_the_pair_is_turned(served, tmp_path):
    path = tmp_path / "cut.jsonl"
    answers = {"Because.": False, "So it is, I think.": True}
    path.write_text(
        json.dumps({"prompt": PROMPT, "responses": [*answers], "finished": [*answers.values()]})
    )
    [row], _ = label(path, tmp_path / "pairs.jsonl", served.url)
    marks = ("chosen", "rejected")
    assert [row[f"{side}_finished"] for side in marks] == [answers[row[side]] for side in marks]
    old = tmp_path / "old.jsonl"
    turned = {
        f"{a}{end}": row[f"{b}{end}"] for a, b in (marks, marks[::-1]) for end in ("", "_finished")
    }
    old.write_text(json.dumps({"prompt": PROMPT} | turned))
    [again], report = label(old, tmp_path / "again.jsonl", served.url, "--shape", "plaudit")
    assert report["swapped"] == 1
    assert again == row | {"category": "old.jsonl"}
    [pair] = sources.load(Source(name="pairs", path=tmp_path / "again.jsonl")).pairs
    assert pair.finished == tuple(answers[text] for text in (pair.chosen, pair.rejected))


def test_agreement_is_of_members(candidates, served, tmp_path, members):
    arguments = [str(candidates), "--url", served.url, "--out", str(tmp_path / "pairs.jsonl")]
    with pytest.raises(DataError, match="--min-agreement is of members, and m0 is a single model"):
        main([*arguments, "--model", members[0].name, "--min-agreement", "0.5"])
