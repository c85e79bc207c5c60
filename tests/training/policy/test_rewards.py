"""Rewards from a real service."""

from pathlib import Path

import pytest

from plaudit.testing import FakeServer
from plaudit.wire import Item
from training.policy.candidates import Candidates
from training.policy.rewards import Service, score
from training.score import checkpoints, served
from training.score.served import ServiceError

TURNS = ({"role": "user", "content": "Why?"},)
ROWS = [
    Candidates(TURNS, ("Because.", "", "No" * 400)),
    Candidates(({"role": "user", "content": "How?"},), ("So.", "Thus.")),
]


def test_every_response_has_its_own_reward_and_null_where_there_is_none(service_url, judge: Path):
    found = score(Service(url=service_url, prompts_per_call=1), ROWS)
    asked = [(list(one.prompt), text) for one in ROWS for text in one.responses]
    scorer, outcomes = checkpoints.score(judge, asked, "error", "float32")
    flat = [reward for one in found.rows for reward in one.rewards]
    assert [one is None for one in flat] == [False, True, True, False, False]
    expected = [one.reward for one in outcomes]
    assert [one for one in flat if one is not None] == pytest.approx(
        [one for one in expected if one is not None], abs=1e-4
    )
    assert {one.revision for one in found.rows} == {found.revision} == {scorer.revision}
    assert found.errors == {"empty": 1, "too-long": 1}
    assert [one.responses for one in found.rows] == [one.responses for one in ROWS]


def gone_after_the_first(times: int) -> FakeServer:
    """Answers one request, and not so many that follow."""

    def reward(_: Item) -> float:
        if not gone:
            gone.append(server.refuse(times, retry_after_seconds=0.001))
        return 1.0

    gone: list[None] = []
    server = FakeServer(reward)
    return server


def test_a_service_that_goes_away_is_waited_for_by_the_time_and_not_by_tries():
    with gone_after_the_first(40) as server:
        service = Service(url=server.url, model="fake", prompts_per_call=1)
        assert [one.rewards for one in score(service, ROWS).rows] == [(1.0,) * 3, (1.0,) * 2]
    with gone_after_the_first(40) as server:
        asked = [([dict(turn) for turn in TURNS], "So.")] * (served.PART + 1)
        _, outcomes = served.score(server.url, "fake", asked, "error")
        assert {one.reward for one in outcomes} == {1.0}


def test_another_revision_than_before_is_an_error_that_says_so(service_url):
    with pytest.raises(ServiceError, match="was exchanged while this ran"):
        score(Service(url=service_url), ROWS, expected="sha256:another")


def test_what_cannot_be_asked_is_told(service_url):
    with pytest.raises(ServiceError, match="is no ensemble"):
        score(Service(url=service_url, aggregate="lcb"), ROWS)
    with pytest.raises(ServiceError, match="say which model"):
        score(Service(url=service_url, model="another"), ROWS)
    with pytest.raises(ServiceError, match="no answer from"):
        score(Service(url="http://127.0.0.1:9"), ROWS)
