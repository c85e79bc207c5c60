"""Two real services behind one client: the rewards of one, one cache a prompt, one revision."""

import contextlib
from pathlib import Path
from typing import Any

import httpx2
import pytest

from plaudit import RevisionChanged, RewardClient

GROUPS = [(f"Question {n}?", [f"Answer {n}.", f"No {n}."]) for n in range(30)]


@pytest.fixture
def two(listen: Any, tiny_checkpoint: Path) -> Any:
    with contextlib.ExitStack() as stack:
        first, second = contextlib.ExitStack(), contextlib.ExitStack()
        stack.push(first)
        stack.push(second)
        urls = [one.enter_context(listen(models=[tiny_checkpoint])) for one in (first, second)]
        yield urls, first.close


def test_rewards_are_those_of_one_and_a_prompt_is_cached_by_one(two: Any) -> None:
    urls, _ = two
    with RewardClient(urls) as client, RewardClient(urls[0]) as one:
        client.wait_ready(60)
        found = client.score_groups(GROUPS)
        assert found.usage.cached == 0
        assert client.score_groups(GROUPS[::-1]).usage.cached == len(found.rewards)
        again = one.score_groups(GROUPS)
    # One replica knew its own share, and only that.
    assert 0 < again.usage.cached < len(again.rewards)
    assert found.rewards == pytest.approx(again.rewards, abs=1e-5)
    assert found.revision == again.revision


def test_one_may_go_between_calls(two: Any) -> None:
    urls, stop_first = two
    with RewardClient(urls, timeout_seconds=60) as client:
        before = client.score_groups(GROUPS).rewards
        stop_first()
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(urls[0] + "/livez")
        assert client.score_groups(GROUPS).rewards == pytest.approx(before, abs=1e-5)


def test_replicas_of_different_models_are_refused(listen: Any, members: list[Path]) -> None:
    with listen(models=[members[0]]) as one, listen(models=[members[1]]) as other:
        with RewardClient([one, other]) as client, pytest.raises(RevisionChanged):
            client.score_groups(GROUPS)
        with RewardClient(one) as client:
            pinned = client.models()[0].revision
        pins = RewardClient([one, other], revision=pinned)
        with pins, pytest.raises(RevisionChanged, match=pinned):
            pins.score_groups(GROUPS)
