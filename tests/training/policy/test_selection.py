"""What RAFT keeps, by hand."""

import pytest

from training.data.jsonlines import DataError
from training.policy.candidates import Candidates, by_prompt, joined
from training.policy.selection import best_of_each, top_overall


def row(name: str, *rewards: float | None, responses: tuple[str, ...] = ()) -> Candidates:
    texts = responses or tuple(f"answer {place}" for place in range(len(rewards)))
    return Candidates(({"role": "user", "content": name},), texts, rewards=rewards)


ROWS = [row("a", 0.1, 0.9, None, 0.9), row("b", None, None), row("c", -3.0, -2.0)]


def kept(rows: list[Candidates]) -> dict[str, tuple[tuple[str, ...], tuple[float | None, ...]]]:
    return {one.first_turn: (one.responses, one.rewards) for one in rows}


def test_the_best_of_each_prompt_is_kept_the_first_of_equals_and_none_without_reward():
    assert kept(best_of_each(ROWS, 2)) == {
        "a": (("answer 1",), (0.9,)),
        "c": (("answer 1",), (-2.0,)),
    }


def test_the_top_share_is_of_all_responses_that_have_a_reward():
    # 5 have one; the best two are both of the first prompt
    assert kept(top_overall(ROWS, 2, 0.4)) == {"a": (("answer 1", "answer 3"), (0.9, 0.9))}
    assert kept(top_overall(ROWS, 2, 0.01)) == {"a": (("answer 1",), (0.9,))}
    whole = top_overall(ROWS, 2, 1.0)
    assert [len(one.responses) for one in whole] == [3, 2]


def test_what_is_too_short_is_not_kept():
    rows = [row("a", 9.0, 1.0, responses=("!", "yes"))]
    assert kept(best_of_each(rows, 2)) == {"a": (("yes",), (1.0,))}
    assert best_of_each(rows, 4) == top_overall(rows, 4, 0.5) == []


def test_unscored_candidates_are_not_ranked():
    with pytest.raises(DataError, match="without rewards"):
        best_of_each([Candidates(({"role": "user", "content": "a"},), ("b",))], 1)


def test_rows_of_one_prompt_are_joined_without_repeats():
    turns = ({"role": "user", "content": "a"},)
    (one,) = joined(
        [
            Candidates(turns, ("x", "y"), ("m", "m"), rewards=(1.0, 2.0), revision="r"),
            Candidates(turns, ("y", "z", "z"), ("n", "n", "n")),
        ]
    )
    assert one == Candidates(turns, ("x", "y", "z"), ("m", "m", "n"))
    assert joined([Candidates(turns, ("x",)), Candidates(turns, ("y",), ("n",))])[0].sources is None


def test_a_response_that_was_cut_stays_one_beside_others_of_which_nothing_is_said():
    turns = ({"role": "user", "content": "a"},)
    rows = [Candidates(turns, ("x",)), Candidates(turns, ("cut mid", "x"), finished=(False, True))]
    (one,) = joined(rows)
    assert one.ended() == [("x", True), ("cut mid", False)]
    assert joined(rows[:1])[0].finished is None


def test_samples_of_one_prompt_on_several_lines_count_with_their_repeats():
    turns = ({"role": "user", "content": "a"},)
    (one,) = by_prompt([Candidates(turns, (text,)) for text in ("x", "y", "x")])
    assert one.responses == ("x", "y", "x")
