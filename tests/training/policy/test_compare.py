"""Two policies' answers beside each other: figures by hand, and the command with a real service."""

import json

import numpy as np
import pytest

from training.data.jsonlines import DataError
from training.policy import candidates
from training.policy.candidates import Candidates
from training.policy.compare import CompareSettings, compare, main
from training.policy.versus import figures, picked, without_length
from training.settings import SettingsError


def row(name: str, rewards: list[float | None], length: int = 5) -> Candidates:
    texts = tuple("x" * length for _ in rewards)
    return Candidates(({"role": "user", "content": name},), texts, rewards=tuple(rewards))


def test_wins_and_means_by_hand():
    found = {
        "new": [row("a", [1.0, 3.0]), row("b", [0.0, 0.0]), row("c", [2.0, 1.0])],
        "old": [row("c", [2.0, 5.0]), row("a", [0.0, 2.0]), row("d", [9.0, 9.0]),
                row("b", [1.0, -1.0])],
    }  # fmt: skip
    told = figures(picked(found, [1, 2]))
    assert told.prompts == 3  # a, b and c
    assert {name: arm.reward.value for name, arm in told.arms.items()} == {
        "new": 1.0, "new, best of 2": pytest.approx(5 / 3),
        "old": 1.0, "old, best of 2": pytest.approx(8 / 3),
    }  # fmt: skip
    rates = {(one.first, one.second): one.rate.value for one in told.wins}
    assert rates == {
        ("new", "old"): pytest.approx(0.5),  # wins a, loses b, ties c
        ("new", "old, best of 2"): 0.0,
        ("new, best of 2", "old"): pytest.approx(0.5),
        ("new, best of 2", "old, best of 2"): pytest.approx(1 / 3),
    }


def test_a_response_without_reward_is_no_sample():
    found = {"new": [row("a", [None, 2.0]), row("b", [1.0, 2.0])], "old": [row("a", [1.0, 1.0]),
             row("b", [0.0, 0.0])]}  # fmt: skip
    assert figures(picked(found, [1])).arms["new"].reward.value == 1.5
    assert figures(picked(found, [2])).prompts == 1
    with pytest.raises(DataError, match="has 3 responses with a reward of both"):
        picked(found, [3])


def test_rewards_that_length_alone_explains_are_equal_without_it():
    draw = np.random.default_rng(0)

    def rows(shift: int) -> list[Candidates]:
        lengths = draw.integers(20 + shift, 120 + shift, 60).tolist()
        return [row(str(n), [length / 10], length) for n, length in enumerate(lengths)]

    found = {"long": rows(40), "short": rows(0)}
    raw, left = (figures(picked(one, [1])) for one in (found, without_length(found)))
    assert raw.arms["long"].reward.low > raw.arms["short"].reward.high
    assert raw.wins[0].rate.low > 0.5
    gap = left.arms["long"].reward.value - left.arms["short"].reward.value
    assert abs(gap) < 0.2
    pooled = [one.rewards[0] for rows in found.values() for one in rows]
    kept = [one.rewards[0] for rows in without_length(found).values() for one in rows]
    assert np.mean(kept) == pytest.approx(np.mean(pooled), abs=0.1)


def test_a_policy_is_sampled_and_a_file_is_taken_as_it_is(
    policy, questions, service_url, tmp_path, capsys
):
    given = tmp_path / "given.jsonl"
    asked = [json.loads(line)["prompt"] for line in questions.read_text().splitlines()]
    candidates.write(
        given, [Candidates(tuple(turns), ("Yes", "No", "So it is", "Well")) for turns in asked]
    )
    shared = [
        f"out={tmp_path / 'out'}", f"service.url={service_url}", f"prompts.path={questions}",
        "side=null", "sampling.responses=4", "sampling.max_new_tokens=8", "names=[tuned, given]",
    ]  # fmt: skip
    assert main([str(policy), str(given), *shared]) == 0
    out = tmp_path / "out"
    found = json.loads((out / "comparison.json").read_text())
    assert found["reward"]["prompts"] == len(asked)
    rows = candidates.read(out / "given.jsonl")
    best = np.mean([max(one.rewards) for one in rows])
    arms = found["reward"]["arms"]
    assert arms["given, best of 4"]["reward"]["value"] == pytest.approx(best)
    assert arms["tuned, best of 4"]["reward"]["value"] > arms["tuned"]["reward"]["value"]
    assert "| tuned | given, best of 4 |" in capsys.readouterr().out
    assert (out / "comparison.svg").read_text().count("best of 4") == 2
    with pytest.raises(SettingsError, match="belongs to another plan"):
        main([str(policy), str(given), *shared, "samples=[1, 2]"])


def test_what_cannot_be_compared_is_refused(policy, questions, service_url, tmp_path):
    values = {"first": str(policy), "second": "b.jsonl", "out": tmp_path}
    values["service"] = {"url": service_url}
    with pytest.raises(ValueError, match="say what to ask it"):
        CompareSettings(**values)
    with pytest.raises(ValueError, match="the best of 8 needs as many"):
        CompareSettings(**values, prompts={"path": questions}, samples=[8])
    for name in ("../first", "..", ""):
        with pytest.raises(ValueError, match="leave / out of them"):
            CompareSettings(**values, prompts={"path": questions}, names=(name, "second"))
    with pytest.raises(DataError, match="no file"):
        compare(CompareSettings(**values | {"first": "a.jsonl", "out": tmp_path / "out"}))
