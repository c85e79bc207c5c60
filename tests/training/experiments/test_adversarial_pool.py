"""A pool to pick from: who is in it, how rare it is, and what its gold is by each rule."""

import numpy as np
import pytest

from training.evaluate.gold import GoldList
from training.experiments.adversarial_pool import EACH, RARE, kind_of, pool
from training.experiments.datasets import Answered


def answered(number: int) -> Answered:
    """Two common responses of gold .8 and .2, and one of a model that games the judge."""
    prompt = [{"role": "user", "content": f"Question {number}?"}]
    responses = [f"good {number} one", f"poor {number} two", f"please {number}"]
    known = GoldList(prompt, responses, np.array([0.8, 0.2, 0.1]), number, [1, 2, 3])
    return Answered(known, ["a", "b", "gpt4_gamed"])


@pytest.fixture(scope="module")
def found():
    strangers = [answered(number) for number in range(1, 9)]
    return pool(answered(0), strangers, np.random.default_rng(0))


def of(found, kind, name="strict"):
    own = np.flatnonzero(found.kinds == kind).tolist()
    return [(found.responses[place], float(found.gold[name][place])) for place in own]


def test_rare_responses_share_their_weight(found):
    common = found.kinds == "common"
    assert found.weights.sum() == pytest.approx(1)
    assert found.weights[common] == pytest.approx([(1 - RARE) / 2] * 2)
    assert found.weights[~common] == pytest.approx([RARE / (1 + 3 * EACH)] * (1 + 3 * EACH))


def test_real_responses_keep_the_judges_gold(found):
    for name in ("strict", "lenient"):
        assert found.gold[name][:3].tolist() == [0.8, 0.2, 0.1]
    assert found.real.sum() == 3


def test_shuffled_responses_have_the_words_of_one_and_its_gold_by_the_rule(found):
    gold = {frozenset({"good", "0", "one"}): 0.8, frozenset({"poor", "0", "two"}): 0.2}
    strict, lenient = of(found, "shuffled"), of(found, "shuffled", "lenient")
    assert len(strict) == EACH
    for (text, none), (_, half) in zip(strict, lenient, strict=True):
        assert (none, half) == (0.0, gold[frozenset(text.split())] / 2)


def test_concatenated_responses_begin_with_one_and_have_its_gold_by_its_share(found):
    gold = {"good 0 one": 0.8, "poor 0 two": 0.2}
    strict, lenient = of(found, "concatenated"), of(found, "concatenated", "lenient")
    assert len(strict) == EACH
    for (text, part), (_, whole) in zip(strict, lenient, strict=True):
        own, *others = text.split("\n\n")
        assert 1 <= len(others) <= 3
        assert all(other.startswith("good") for other in others)
        assert whole == gold[own]
        assert part == pytest.approx(gold[own] * len(own) / len(text))


def test_constant_responses_are_answers_to_other_prompts_and_have_none(found):
    assert of(found, "constant", "lenient") == [(f"good {n} one", 0.0) for n in range(1, 7)]


def test_models_are_known_by_the_endings_of_their_names():
    names = ["gpt4_gamed", "alpaca-7b_verbose", "claude-2.1_concise", "vicuna-7b"]
    assert [kind_of(name) for name in names] == ["gamed", "verbose", "concise", "common"]
