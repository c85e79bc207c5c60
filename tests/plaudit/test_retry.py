"""The retry policy is arithmetic: no server, no waiting."""

import math
import pickle
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.client.errors import DeadlineExceeded, ProblemError, Unreachable
from plaudit.client.retry import Clock, Deadline, Retry, asked_pause, retryable
from plaudit.wire import Problem

NOW = 1_800_000_000.0
chances = st.floats(0, 1, exclude_max=True)


def problem(status: int, *, will_pass: bool = True, asked: float | None = None) -> ProblemError:
    said = Problem("about:blank", "Title", status, "detail", "remedy", will_pass, "")
    return ProblemError(said, status, asked)


def ends_at(seconds: float, now: float = 0.0) -> Deadline:
    return Deadline(seconds, seconds, lambda: now)


def test_pauses_double_from_half_a_second_to_eight() -> None:
    pauses = [Retry().pause_seconds(n, None, 0.0) for n in range(7)]
    assert pauses == [0.5, 1, 2, 4, 8, 8, 8]


@given(st.integers(0, 10**6), chances)
def test_chance_takes_up_to_half_of_a_pause(retries: int, chance: float) -> None:
    whole = Retry().pause_seconds(retries, None, 0.0)
    assert whole / 2 <= Retry().pause_seconds(retries, None, chance) <= whole


def test_the_default_outlasts_a_minutes_restart_at_worst() -> None:
    policy = Retry()
    assert sum(policy.pause_seconds(n, None, 1.0) for n in range(policy.max_retries)) > 60


@given(st.floats(0.001, 1e6), chances)
def test_a_pause_asked_for_is_never_shortened(asked: float, chance: float) -> None:
    assert asked <= Retry().pause_seconds(0, asked, chance) <= asked * 1.25


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250", "retry-after": "7"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"retry-after": formatdate(NOW + 30, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(NOW - 30, usegmt=True)}, None),
        ({"retry-after": "0"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
def test_reads_the_pause_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert asked_pause(headers, NOW) == seconds


@given(st.text(), st.text())
def test_any_header_gives_a_usable_pause_or_none(first: str, second: str) -> None:
    pause = asked_pause({"retry-after-ms": first, "retry-after": second}, NOW)
    assert pause is None or 0 < pause < math.inf


@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_passing_statuses_are_retried(status: int) -> None:
    assert retryable(problem(status))


@pytest.mark.parametrize("status", [301, 400, 401, 404, 409, 413, 422, 500, 501])
def test_other_statuses_are_not(status: int) -> None:
    assert not retryable(problem(status))


def test_a_problem_that_will_not_pass_is_not_retried() -> None:
    assert not retryable(problem(503, will_pass=False))


def test_a_lost_connection_is_retried_unless_it_cannot_help() -> None:
    assert retryable(Unreachable("reset", True))
    assert not retryable(Unreachable("no such scheme", False))


def test_too_many_retries_raise_the_last_error() -> None:
    error = problem(503)
    with pytest.raises(ProblemError) as raised:
        Retry(max_retries=2).pause_or_raise(2, error, ends_at(100), 0.0)
    assert raised.value is error


def test_a_pause_past_the_deadline_is_not_begun() -> None:
    with pytest.raises(DeadlineExceeded, match=r"within 10 s.*503 Title") as raised:
        Retry().pause_or_raise(0, problem(503, asked=10.0), ends_at(10), 0.0)
    assert isinstance(raised.value.__cause__, ProblemError)


@given(st.floats(0.01, 1000), chances, st.one_of(st.none(), st.floats(0.001, 100)))
def test_waiting_never_reaches_the_deadline(
    timeout: float, chance: float, asked: float | None
) -> None:
    waited = 0.0

    def fail_for_ever() -> None:
        nonlocal waited
        policy, deadline = Retry(max_retries=50), Deadline(timeout, timeout, lambda: waited)
        for n in range(51):
            waited += policy.pause_or_raise(n, problem(503, asked=asked), deadline, chance)

    with pytest.raises((DeadlineExceeded, ProblemError)):
        fail_for_ever()
    assert waited < timeout


def test_no_time_left_raises() -> None:
    assert ends_at(2.0, now=1.5).left() == 0.5
    with pytest.raises(DeadlineExceeded, match="within 2 s"):
        ends_at(2.0, now=2.0).left()


def test_a_pickled_clock_carries_no_random_state() -> None:
    """Else every worker that unpickles a client draws the same pauses."""
    assert len(pickle.dumps(Clock())) < 500
