"""What makes the judges of the experiments on policies independent, and the figures they give."""

from pathlib import Path

import numpy as np
import pytest
from short_runs import interrupted_after_first_state

from plaudit import checkpoint
from training.data.shapes import Pair
from training.data.sources import Source
from training.experiments import judges, raft, rrhf, unseen
from training.experiments.judges import QUICK
from training.experiments.smollm2 import BASE
from training.policy.candidates import Candidates
from training.settings import TrainSettings

DATA = Path(__file__).parents[3].parent / "shared" / "data"


def asked(number: int) -> Pair:
    return Pair(({"role": "user", "content": f"Question {number}?"},), "a", "b", "made", "made")


def settings(source: Source, held_out: int, seed: int) -> TrainSettings:
    return judges.settings(BASE, QUICK, [source], source.path.parent, held_out, seed)


def test_no_prompt_trains_both_judges(tmp_path):
    source = Source(name="rmb", path=tmp_path / "rmb.jsonl")
    proxy, gold = (settings(source, held_out, seed=held_out) for held_out in (0, 1))
    sides = [(proxy.split.side(one), gold.split.side(one)) for one in map(asked, range(400))]
    assert ("train", "train") not in sides
    assert {("train", "held_out"), ("held_out", "train"), ("validation", "validation")} == set(
        sides
    )
    assert (proxy.head_seed, proxy.seed) != (gold.head_seed, gold.seed)
    assert proxy.out != gold.out


def test_other_settings_are_other_judges(tmp_path):
    source = Source(name="rmb", path=tmp_path / "rmb.jsonl")
    again, other = (settings(source, 0, seed).out.name for seed in (0, 1))
    assert again == settings(source, 0, 0).out.name != other


def test_a_judge_that_was_broken_off_is_finished_and_its_trunk_is_gone(configure, tmp_path):
    trunk = tmp_path / "judge.trunk"
    config = configure(tmp_path / "judge", epochs=1, train_layers=1, trunk_cache=trunk)
    with interrupted_after_first_state(config.out):
        judges.trained(config)
    assert judges.trained(config) == config.out
    assert checkpoint.is_complete(config.out)
    assert not trunk.exists()
    trunk.touch()  # as where a run was killed between the two
    judges.trained(config)
    assert not trunk.exists()


def test_policies_are_asked_what_no_judge_was_trained_on():
    if not DATA.is_dir():
        pytest.skip(f"no preference data at {DATA}")
    found = unseen.answered(DATA, responses=5, at_least=5)
    assert not {one.first_turn.strip() for one in found} & unseen.trained_on(DATA)
    assert {len(one.responses) for one in found} == {5}
    for experiment, needed in ((raft, 256), (rrhf, 150)):
        sides = [experiment.SPLIT.side(one) for one in unseen.answered(DATA, 5, 1)]
        assert sides.count("train") >= needed


def test_keeping_the_best_of_more_given_answers_by_hand():
    """Four answers; gold finds the proxy's third best, and its best worst."""
    row = Candidates(({"role": "user", "content": "Hi"},), ("a", "b", "c", "d"))
    by = {"proxy": (0.0, 1.0, 2.0, 3.0), "gold": (0.0, 4.0, 2.0, -1.0)}

    rows = {
        judge: [Candidates(row.prompt, row.responses, rewards=values)]
        for judge, values in by.items()
    }
    found = raft.kept_of_given(rows, (1, 2))
    # The best of two draws with replacement is the nth with chance (2n - 1) / 16.
    chances = np.array([1, 3, 5, 7]) / 16
    assert [one.value for one in found["proxy"]] == pytest.approx([1.5, chances @ by["proxy"]])
    assert [one.value for one in found["gold"]] == pytest.approx([1.25, chances @ by["gold"]])
