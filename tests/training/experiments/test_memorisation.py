"""What the experiments on one start are trained on and judged by: prompts of no two sides meet."""

from itertools import combinations

import numpy as np
import pytest

from training.data.shapes import Pair
from training.evaluate.gold import GoldList
from training.experiments import proxies
from training.experiments.datasets import Answered
from training.experiments.members import RECIPES
from training.experiments.memorisation import (
    NOISE,
    OTHER_CATEGORIES,
    OTHER_SOURCE,
    STOPPED,
    Data,
    flipped,
    is_right,
    noise_draw,
)


def pair(prompt: int, category: str, number: int = 0) -> Pair:
    turns = ({"role": "user", "content": f"Question {prompt}"},)
    return Pair(turns, f"because {prompt} {number}", f"no {prompt} {number}", "s", category)


PAIRS = [
    pair(prompt, "Harmlessness/S9" if prompt % 10 == 0 else "Harmlessness/S1")
    for prompt in range(300)
]
# A held-out category's prompt stands in another category too, and in the other source.
PAIRS += [pair(10, "Harmlessness/S1", 1)]
OTHER = [pair(prompt, "helpful", 2) for prompt in range(295, 310)]


@pytest.fixture(scope="module")
def data() -> Data:
    return Data.of(PAIRS, OTHER)


def test_no_prompt_stands_on_two_sides(data):
    sides = [data.start, data.train, data.validation, *data.judged.values()]
    assert all(len(side) > 5 for side in sides)
    for one, other in combinations([set(data.prompts[side]) for side in sides], 2):
        assert not one & other


def test_held_out_categories_take_their_prompts_along(data):
    prompts = {f"Question {prompt}" for prompt in range(0, 300, 10)}
    assert set(data.prompts[data.judged[OTHER_CATEGORIES]]) == prompts
    assert sum(data.prompts == "Question 10") == 1


def test_the_other_source_has_no_prompt_of_the_first(data):
    places = data.judged[OTHER_SOURCE]
    assert set(data.prompts[places]) == {f"Question {prompt}" for prompt in range(300, 310)}


def test_a_quarter_of_the_training_labels_alone_is_flipped(data):
    wrong = flipped(data, seed=0)
    assert not np.delete(wrong, data.train).any()
    assert wrong[data.train].mean() == pytest.approx(NOISE, abs=0.08)


def test_right_is_by_the_label_that_training_was_given(data):
    rewards = np.zeros(len(data.texts.characters))
    rewards[data.texts.places[:, 0]] = 1.0
    wrong = flipped(data, seed=0)
    assert (is_right(data, rewards, wrong) == ~wrong).all()
    assert not is_right(data, np.zeros_like(rewards), wrong).any()


def test_members_learn_a_word_that_decides_and_remember_what_contradicts_it(data):
    found = noise_draw(data, RECIPES[:2], epochs=2, seed=0)
    assert found.accuracy(("WARM", 2), 1, "held out") > 0.9
    assert found.accuracy(("ENS", 2), 1, "held out") > 0.9
    assert found.accuracy(STOPPED, 0, "held out") > 0.9
    assert found.accuracy(("WARM", 1), 1, "corrupted") < found.accuracy(("WARM", 1), 1, "clean")
    assert (found.right["WARM", 1] == found.right["ENS", 1]).all()
    assert set(found.stopped_after) <= {1, 2}


def answered(number: int) -> Answered:
    prompt = [{"role": "user", "content": f"Question {number}"}]
    responses = [f"answer {number} {place}" for place in range(4)]
    known = GoldList(prompt, responses, np.arange(4) / 4, number, [1, 2, 3, 4])
    return Answered(known, ["a", "b", "c", "d_gamed"])


def test_proxies_are_trained_on_none_of_the_prompts_that_judge_them():
    found = proxies.Data.of([answered(number) for number in range(60)])
    judging = {pool.prompt for pool, _ in found.places()}
    pools = {pool.prompt for pool in found.pools}
    assert judging < pools
    assert len(found.train) + len(found.start) == len(found.texts.places)
    for pool, start in found.places():
        assert set(np.flatnonzero(found.owner == found.pools.index(pool))) == set(
            range(start, start + len(pool.responses))
        )
        own = pool.gold["strict"][pool.real]
        assert own.tolist() == [0, 0.25, 0.5, 0.75]


def test_made_answers_take_nothing_from_prompts_that_train_or_judge():
    found = proxies.Data.of([answered(number) for number in range(100)])
    calibrating = {pool.prompt for pool in found.pools} - {
        pool.prompt for pool, _ in found.places()
    }
    for pool in found.pools:
        made = list(zip(pool.kinds, pool.responses, strict=True))
        taken = [text for kind, text in made if kind == "constant"]
        taken += [
            part for kind, text in made if kind == "concatenated" for part in text.split("\n\n")[1:]
        ]
        assert len(taken) > 6
        of = {f"Question {text.split()[1]}" for text in taken}
        assert of <= calibrating - {pool.prompt}


def test_the_response_with_more_gold_is_chosen():
    prompt = [{"role": "user", "content": "Question"}]
    known = GoldList(prompt, ["worst", "best", "middle"], np.array([0.1, 0.9, 0.5]), 1, [1, 2, 3])
    order = ["worst", "middle", "best"]
    found = proxies.pairs_of(Answered(known, ["a", "b", "c"]), np.random.default_rng(0))
    assert len(found) == proxies.PAIRS
    assert all(order.index(pair.chosen) > order.index(pair.rejected) for pair in found)
