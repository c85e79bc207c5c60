"""The stand-in that users test with: what it promises."""

import threading

import pytest

from plaudit import DeadlineExceeded, Item, ProblemError, RewardClient, Unreachable
from plaudit.testing import FakeServer
from plaudit.wire import ItemError


def length(item: Item) -> int:
    return len(item.response or "")


def test_rewards_are_the_users_rule() -> None:
    with FakeServer(length) as server, RewardClient(server.url) as client:
        assert client.score([("p", "abc"), ("p", "")]).rewards == [3.0, 0.0]
        assert client.score_groups([("p", ["a", "bc"])]).rewards == [1.0, 2.0]


def test_rewards_are_otherwise_the_same_everywhere_and_differ_between_items() -> None:
    found = []
    for _ in range(2):
        with FakeServer() as server, RewardClient(server.url) as client:
            found.append(client.score([("p", str(n)) for n in range(99)]).rewards)
    assert found[0] == found[1]
    assert len(set(found[0])) == 99


def test_an_item_fails_alone() -> None:
    def rule(item: Item) -> float | ItemError:
        return ItemError("too-long", "9 tokens") if item.response == "bad" else 1.0

    with FakeServer(rule) as server, RewardClient(server.url) as client:
        assert client.score([("p", "good"), ("p", "bad")]).rewards == [1.0, None]
        assert client.ensemble_score([("p", "good"), ("p", "bad")]).variance == [0.5, None]


@pytest.mark.parametrize(
    ("kind", "reward"),
    # Of 3 - 1, 3 and 3 + 4: mean 4, variance (4 + 1 + 9) / 2 = 7.
    [("mean", 4.0), ("median", 3.0), ("wco", 2.0), ("uwo", 4 - 0.1 * 7), ("lcb", 4 - 0.1 * 7**0.5)],
)
def test_an_ensemble_aggregates(kind: str, reward: float) -> None:
    with FakeServer(length, offsets=(-1, 0, 4)) as server, RewardClient(server.url) as client:
        found = client.ensemble_score([("p", "abc")], aggregate=kind, coefficient=0.1)
    assert found.rewards == [pytest.approx(reward)]
    assert (found.mean, found.variance) == ([4.0], [7.0])
    assert found.member_scores == [[2.0, 3.0, 7.0]]


def test_a_rule_that_fails_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    def rule(item: Item) -> float:
        return 1.0 + item.response  # type: ignore[operator]

    with FakeServer(rule) as server:
        client = RewardClient(server.url, max_retries=0)
        with client, pytest.raises(Unreachable):
            client.score([("p", "r")])
    assert "TypeError: unsupported operand" in capfd.readouterr().err


def test_a_caller_that_gave_up_is_no_news(capfd: pytest.CaptureFixture[str]) -> None:
    with FakeServer() as server:
        impatient = RewardClient(server.url, timeout_seconds=0.1)
        with server.held(), impatient, pytest.raises(DeadlineExceeded):
            impatient.score([("p", "r")])
    assert capfd.readouterr().err == ""


def test_it_refuses_and_drops_as_often_as_told() -> None:
    with FakeServer() as server, RewardClient(server.url, max_retries=0) as client:
        server.refuse(2)
        for _ in range(2):
            with pytest.raises(ProblemError, match="503"):
                client.score([])
        client.score([])
        assert len(server.requests) == 3


def test_it_holds_answers_until_it_is_released() -> None:
    with FakeServer() as server, RewardClient(server.url) as client:
        found: list[object] = []
        with server.held():
            waiting = threading.Thread(target=lambda: found.append(client.score([("p", "r")])))
            waiting.start()
            impatient = RewardClient(server.url, timeout_seconds=0.1)
            with impatient, pytest.raises(DeadlineExceeded):
                impatient.score([])
            assert not found
        waiting.join()
        assert found


def test_its_key_is_needed() -> None:
    with FakeServer(api_key="k") as server:
        with RewardClient(server.url, "k") as client:
            client.wait_ready(10)
            client.score([])
        with RewardClient(server.url) as client, pytest.raises(ProblemError, match="401"):
            client.score([])
