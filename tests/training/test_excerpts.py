"""Excerpts: the end of the prompt, the beginnings of its responses."""

import pytest
from pydantic import ValidationError

from training.data.excerpts import Excerpter, Excerpts
from training.data.sources import Pair


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def pair(*prompt: dict[str, str], chosen: str = "c" * 99, rejected: str = "r" * 99) -> Pair:
    return Pair(prompt, chosen, rejected, "s", "")


@pytest.fixture
def excerpt(tokenizer):
    """``excerpt(pair, prompt, shortest, longest)``; each byte is a token."""

    def cut(one: Pair, prompt: int, shortest: int, longest: int) -> Pair:
        settings = Excerpts(prompt_tokens=prompt, response_tokens=(shortest, longest))
        return Excerpter(settings, tokenizer)(one)

    return cut


def test_the_prompt_keeps_its_end_and_responses_their_beginnings(excerpt):
    whole = pair(turn("user", "0123456789"), chosen="abcdefgh", rejected="xyz")
    found = excerpt(whole, 4, 5, 5)
    assert found.prompt == (turn("user", "6789"),)
    assert (found.chosen, found.rejected) == ("abcde", "xyz")


def test_earlier_turns_stay_while_they_fit_and_a_user_begins(excerpt):
    whole = pair(turn("user", "abcd"), turn("assistant", "efgh"), turn("user", "ijkl"))
    assert excerpt(whole, 12, 9, 9).prompt == whole.prompt
    assert excerpt(whole, 10, 9, 9).prompt == (turn("user", "cd"), *whole.prompt[1:])
    assert excerpt(whole, 6, 9, 9).prompt == (turn("user", "ijkl"),)
    assert excerpt(whole, 2, 9, 9).prompt == (turn("user", "kl"),)


def test_responses_to_one_prompt_are_cut_alike_and_prompts_at_many_lengths(excerpt):
    lengths = set()
    for i in range(60):
        found = excerpt(pair(turn("user", f"Question {i}")), 50, 8, 64)
        again = excerpt(pair(turn("user", f"Question {i}"), chosen="d" * 80), 50, 8, 64)
        assert len(found.chosen) == len(found.rejected) == len(again.chosen)
        lengths.add(len(found.chosen))
    assert min(lengths) >= 8
    assert max(lengths) <= 64
    assert len(lengths) > 20
    assert 15 < sorted(lengths)[len(lengths) // 2] < 40  # log-uniform: the middle is 22


def test_a_range_the_wrong_way_round_is_refused():
    with pytest.raises(ValidationError, match="shortest, longest"):
        Excerpts(prompt_tokens=4, response_tokens=(9, 8))
