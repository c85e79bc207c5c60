"""``plaudit tune-penalty``: by hand on made-up rewards, and of tiny members from end to end."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModelForSequenceClassification

from plaudit.calibration import Calibration
from plaudit.checkpoint import CheckpointError
from plaudit.conversation import Encoder
from training.data.jsonlines import DataError
from training.data.sources import Source, load
from training.data.splits import halves
from training.evaluate.gold import gold_lists
from training.evaluate.penalty import JudgedList, report, tune
from training.settings import SettingsError
from training.tune_penalty import main, read, score

# The first response has the larger mean, 1.5 and 1, and a variance of 4.5; its gold is nothing.
REWARDS, GOLD = np.array([[3.0, 0.0], [1.0, 1.0]]), np.array([0.0, 1.0])
LISTS = [JudgedList(f"prompt {number}", REWARDS, GOLD) for number in range(20)]


def test_the_coefficient_that_turns_the_pick_is_found_and_the_smallest_of_equals():
    # Of two draws the preferred one is among them in three cases of four.
    found = tune(LISTS, "uwo", [0.0, 0.1, 0.2, 1.0], n=2)
    assert found == pytest.approx({0.2: 0.75, 1.0: 0.75, 0.0: 0.25, 0.1: 0.25})
    assert next(iter(found)) == 0.2
    # k * sqrt(4.5) is over the lead of one half from k = .24.
    assert next(iter(tune(LISTS, "lcb", [0.2, 0.3], n=2))) == 0.3


def test_the_other_half_says_what_it_is_worth():
    mean, picked, wco = report(LISTS, "uwo", 0.2, n=2)
    assert [row.gold.value for row in (mean, picked, wco)] == pytest.approx([0.25, 0.75, 0.75])
    assert (picked.more.value, picked.more.low, picked.more.high) == pytest.approx((0.5,) * 3)
    assert mean.more.value == 0


def test_a_centre_gives_what_the_penalty_is_taken_from():
    lists = [JudgedList(one.prompt, REWARDS, GOLD, np.array([5.0, 0.0])) for one in LISTS]
    # The centre's lead of 5 is gone where the first response's variance of 4.5 counts twice.
    found = tune(lists, "uwo", [0.0, 0.2, 2.0], n=2)
    assert found == pytest.approx({2.0: 0.75, 0.0: 0.25, 0.2: 0.25})
    mean, _, wco = report(lists, "uwo", 2.0, n=2)
    assert (mean.gold.value, wco.gold.value) == pytest.approx((0.25, 0.75))


@pytest.fixture
def gold(tmp_path: Path) -> Path:
    path = tmp_path / "gold.jsonl"
    rows = [
        {
            "prompt": f"Question {number}?",
            "reference": {"text": "So it is."},
            "responses": [
                {"text": f"Answer {number} {'so ' * place}", "win_probability": place / 5}
                for place in range(5)
            ],
        }
        for number in range(8)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def ensemble_file(tmp_path: Path, members: list[Path]) -> Path:
    path = tmp_path / "ensemble.yaml"
    declared = {"members": [str(one) for one in members], "aggregate": "mean", "coefficient": 0.7}
    path.write_text(yaml.safe_dump(declared))
    return path


def served(member: Path, prompts: list[str], responses: list[str]) -> list[float]:
    """Rewards by plain Transformers, one sequence at a time, with the member's calibration."""
    model = AutoModelForSequenceClassification.from_pretrained(member)
    encoder = Encoder.load(member, 512)
    found = []
    for prompt, response in zip(prompts, responses, strict=True):
        ids = torch.tensor([encoder.pair([{"role": "user", "content": prompt}], response)])
        with torch.inference_mode():
            found.append((model(ids).logits.item() - 0.5) / 2.0)
    return found


def test_gold_is_that_of_plain_transformers_rewards(
    gold: Path, ensemble_file: Path, members: list[Path], capsys: pytest.CaptureFixture[str]
):
    before = ensemble_file.read_bytes()
    arguments = [str(ensemble_file), "--gold", str(gold), "--n", "3", "--dtype", "float32"]
    assert main([*arguments, "--aggregate", "lcb", "--grid", "0", "2"]) == 0
    printed = capsys.readouterr().out
    assert ensemble_file.read_bytes() == before

    lists = gold_lists(load(Source(name="gold", path=gold, shape="win_probabilities")))
    responses = [text for one in lists for text in one.responses]
    prompts = [one.first_turn for one in lists for _ in one.responses]
    rewards = np.array([served(member, prompts, responses) for member in members]).T
    own = np.split(rewards, np.cumsum([len(one.responses) for one in lists])[:-1])
    judged = [
        JudgedList(one.first_turn, some, one.gold) for one, some in zip(lists, own, strict=True)
    ]
    tuning = {one.prompt for one in halves(judged, lambda one: one.prompt, "penalty")[0]}
    for k in (0, 2):
        # The best of three draws from K is at most the i-th from below with chance (i / K)^3.
        found = [
            sum(
                one.gold[place] * ((rank + 1) ** 3 - rank**3) / len(one.gold) ** 3
                for rank, place in enumerate(np.argsort(some.mean(1) - k * some.std(1, ddof=1)))
            )
            for one, some in zip(lists, own, strict=True)
            if one.first_turn in tuning
        ]
        assert f"  {k:<8g} {np.mean(found):.4f}" in printed
    assert "less mean" in printed


def test_a_member_that_is_the_centre_is_still_one_of_the_members(
    tmp_path: Path, gold: Path, members: list[Path]
):
    path = tmp_path / "ensemble.yaml"
    named = [str(one) for one in members[:2]]
    path.write_text(yaml.safe_dump({"members": named, "centre": named[1]}))
    lists = gold_lists(load(Source(name="gold", path=gold, shape="win_probabilities")))[:2]
    for known, found in zip(lists, score(read([path]), lists, "float32"), strict=True):
        prompts = [known.first_turn] * len(known.responses)
        own = [served(member, prompts, known.responses) for member in members[:2]]
        assert pytest.approx(np.array(own), abs=1e-5) == found.rewards.T
        assert found.centre == pytest.approx(own[1], abs=1e-5)


def test_writing_changes_aggregate_and_coefficient_alone(
    gold: Path, ensemble_file: Path, capsys: pytest.CaptureFixture[str]
):
    before = yaml.safe_load(ensemble_file.read_text())
    main([str(ensemble_file), "--gold", str(gold), "--grid", "0.25", "--write"])
    after = yaml.safe_load(ensemble_file.read_text())
    assert (after["aggregate"], after["coefficient"]) == ("uwo", 0.25)
    kept = {name: value for name, value in after.items() if name in before}
    assert kept | {"aggregate": "mean", "coefficient": 0.7} == before
    assert f"{ensemble_file}: uwo, 0.25" in capsys.readouterr().out


def test_checkpoints_need_no_file(gold: Path, members: list[Path]):
    assert main([*map(str, members[:2]), "--gold", str(gold), "--n", "2"]) == 0


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--n", "1"], "one draw"),
        (["--grid", "-1"], "--grid -1: a coefficient"),
        (["--grid", "inf"], "finite"),
        (["--write"], "--write needs an ensemble file"),
    ],
)
def test_settings_that_mean_nothing_are_refused(
    gold: Path, members: list[Path], arguments: list[str], named: str
):
    with pytest.raises(SettingsError, match=named):
        main([*map(str, members), "--gold", str(gold), *arguments])


def test_a_file_among_checkpoints_is_refused(gold: Path, ensemble_file: Path, members: list[Path]):
    with pytest.raises(SettingsError, match="names its members"):
        main([str(ensemble_file), str(members[0]), "--gold", str(gold)])


def test_one_member_is_refused(gold: Path, members: list[Path]):
    with pytest.raises(CheckpointError, match="one member has no variance"):
        main([str(members[0]), "--gold", str(gold)])


def test_uncalibrated_members_are_refused(
    tmp_path: Path,
    gold: Path,
    members: list[Path],
    tokenizer: object,
    save_plain: Callable[..., Path],
    make_complete: Callable[..., Path],
):
    bare = make_complete(save_plain(tmp_path / "bare", tokenizer, 5), calibration=Calibration())
    with pytest.raises(CheckpointError, match="bare not calibrated"):
        main([str(members[0]), str(bare), "--gold", str(gold)])


def test_objectives_are_refused(tmp_path: Path, gold: Path, members: list[Path]):
    path = tmp_path / "objectives.yaml"
    declared = {
        name: {"member": str(one), "weight": 0.5}
        for name, one in zip(("helpful", "harmless"), members, strict=False)
    }
    path.write_text(yaml.safe_dump({"objectives": declared}))
    with pytest.raises(CheckpointError, match="a file of objectives"):
        main([str(path), "--gold", str(gold)])


def test_a_file_without_gold_is_refused(pairs_file: Path, members: list[Path]):
    with pytest.raises(DataError, match="win_probabilities"):
        main([*map(str, members), "--gold", str(pairs_file)])


def test_too_few_prompts_for_two_halves_are_refused(
    tmp_path: Path, gold: Path, members: list[Path]
):
    alone = tmp_path / "alone.jsonl"
    alone.write_text(gold.read_text().splitlines()[0] + "\n")
    with pytest.raises(DataError, match="too few prompts"):
        main([*map(str, members), "--gold", str(alone)])


def test_the_reference_and_its_twins_have_no_gold(tmp_path: Path):
    path = tmp_path / "lists.jsonl"
    graded = [("Same", 0.3), ("Good", 0.9), ("Even", 0.5), ("  ", 0.1), ("Poor", 0.2)]
    row = {
        "prompt": "Q",
        "reference": {"text": "Same"},
        "responses": [{"text": text, "win_probability": p} for text, p in graded],
    }
    path.write_text(json.dumps(row) + "\n")
    (found,) = gold_lists(load(Source(name="x", path=path, shape="win_probabilities")))
    assert (found.responses, found.places) == (["Good", "Poor"], [2, 5])
    assert found.gold.tolist() == [0.9, 0.2]
