"""Several servers behind one client: each prompt has its own, while it can be reached."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from time_by_hand import Time

from plaudit import AsyncRewardClient, DeadlineExceeded, RevisionChanged, RewardClient, Unreachable
from plaudit.client.attempts import Attempts
from plaudit.client.replicas import REST_SECONDS, Replicas
from plaudit.client.requests import CONNECT_SECONDS, Call
from plaudit.client.retry import Deadline, Retry
from plaudit.testing import FakeServer

PAIRS = [(f"question {n}", f"answer {n}") for n in range(60)]
Ask = Callable[..., Any]


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def servers() -> Iterator[list[FakeServer]]:
    with ExitStack() as stack:
        yield [stack.enter_context(FakeServer()) for _ in range(3)]


@pytest.fixture(params=[RewardClient, AsyncRewardClient])
def client(request: pytest.FixtureRequest, servers: list[FakeServer], time: Time) -> Iterator[Any]:
    """Of either kind, over all servers; its methods wait."""
    whole = request.param([server.url for server in servers], _clock=time.clock(), max_retries=3)
    if request.param is RewardClient:
        with whole:
            yield whole
        return

    class Waiting:
        def __getattr__(self, name: str) -> Ask:
            async def call(*given: Any, **options: Any) -> Any:
                async with whole:
                    return await getattr(whole, name)(*given, **options)

            return lambda *given, **options: asyncio.run(call(*given, **options))

    yield Waiting()


def prompts(server: FakeServer) -> set[str]:
    bodies = [json.loads(received.body) for received in server.requests if received.body]
    return {item["prompt"] for body in bodies for item in body["items"]}


def stop(server: FakeServer) -> None:
    server.__exit__()


def test_every_prompt_meets_the_same_replica_again_and_rewards_keep_their_order(
    client: Any, servers: list[FakeServer]
) -> None:
    with FakeServer() as alone, RewardClient(alone.url) as one:
        expected = one.score(PAIRS).rewards
    assert client.score(PAIRS).rewards == expected
    first = [prompts(server) for server in servers]
    assert all(first)
    assert sum(map(len, first)) == len(PAIRS)
    for pair in PAIRS[::-1]:
        client.score([pair])
    assert [prompts(server) for server in servers] == first


def test_the_responses_of_a_prompt_stay_together_however_it_is_written(
    client: Any, servers: list[FakeServer]
) -> None:
    turn = {"role": "user", "content": "Why?"}
    client.score([("Why?", "a"), ([turn], "b")])
    client.score([{"messages": [turn, {"role": "assistant", "content": "c"}]}])
    client.score_groups([("Why?", ["d", "e"])])
    assert sorted(len(server.requests) for server in servers) == [0, 0, 3]


def test_the_share_of_a_lost_replica_goes_to_the_others_and_comes_back(
    client: Any, servers: list[FakeServer], time: Time
) -> None:
    expected = client.score(PAIRS).rewards
    before = [prompts(server) for server in servers]
    lost = servers[0]
    port = int(lost.url.rpartition(":")[2])
    stop(lost)
    for server in servers[1:]:
        server.requests.clear()
    assert client.score(PAIRS).rewards == expected
    assert not any(time.pauses)  # another one was there
    assert prompts(servers[1]) | prompts(servers[2]) == {prompt for prompt, _ in PAIRS}
    assert before[1] <= prompts(servers[1])
    client.score(PAIRS)
    assert all(prompts(server) & before[0] for server in servers[1:])
    with FakeServer(port=port) as back:
        client.score(PAIRS)
        assert not back.requests
        time.seconds += REST_SECONDS
        assert client.score(PAIRS).rewards == expected
        assert prompts(back) == before[0]


def test_all_lost_is_unreachable_after_the_retries(
    client: Any, servers: list[FakeServer], time: Time
) -> None:
    for server in servers:
        stop(server)
    with pytest.raises(Unreachable, match="no answer from"):
        client.score(PAIRS[:1])
    assert [pause for pause in time.pauses if pause] == [0.5, 1.0, 2.0]


def swallowing(
    time: Time, count: int, retry: Retry, timeout_seconds: float
) -> tuple[Callable[[], None], list[str]]:
    """Attempts at replicas that swallow packets, so that each costs its time; whom they ask."""
    urls = tuple(f"http://r{n}" for n in range(count))
    now = time.clock().now
    deadline = Deadline(timeout_seconds, now() + timeout_seconds, now)
    call = Call("POST", "/score", urls, "id-1")
    attempts = Attempts(call, Replicas(urls, now), retry, deadline)
    asked: list[str] = []

    def run() -> None:
        while True:
            url = attempts.base_url()
            attempts.deadline.left()
            asked.append(url)
            time.seconds += CONNECT_SECONDS
            pause = attempts.pause_or_raise(url, Unreachable(f"no answer from {url}", True), 0.0)
            time.seconds += pause

    return run, asked


@pytest.mark.parametrize("count", [1, 2, 3])
def test_all_that_swallow_packets_are_tried_once_for_each_retry_and_that_is_logged(
    time: Time, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    """By the time the last one is given up the first has rested."""
    run, asked = swallowing(time, count, Retry(max_retries=3), 600.0)
    with pytest.raises(Unreachable) as caught:
        run()
    assert asked == [f"http://r{n}" for n in range(count)] * 4
    assert len(caplog.messages) == 4 * count - 1
    assert all("[request id-1]" in message for message in caplog.messages)
    assert caught.value.detail == f"no answer from http://r{count - 1}"


@pytest.mark.parametrize("timeout_seconds", [5.0, 7.0, 11.0, 30.0])
def test_a_deadline_met_on_the_way_to_the_next_replica_says_why(
    time: Time, timeout_seconds: float
) -> None:
    run, asked = swallowing(time, 2, Retry(max_retries=20), timeout_seconds)
    with pytest.raises(DeadlineExceeded, match="the last attempt: no answer from") as caught:
        run()
    assert isinstance(caught.value.__cause__, Unreachable)
    assert asked[-1] in str(caught.value)


def test_a_replica_that_answers_is_found_behind_several_that_swallow_packets(
    time: Time,
) -> None:
    urls = ("http://r0", "http://r1", "http://r2")
    replicas = Replicas(urls, time.clock().now)
    call = Call("POST", "/score", urls, "id-1")
    attempts = Attempts(call, replicas, Retry(), Deadline(60.0, 60.0, time.clock().now))
    for expected in urls[:2]:
        assert attempts.base_url() == expected
        time.seconds += CONNECT_SECONDS
        assert attempts.pause_or_raise(expected, Unreachable("no answer", True), 0.0) == 0.0
    assert not replicas._rests(urls[0])  # it would be asked again before the third
    assert attempts.base_url() == urls[2]


def test_a_busy_replica_is_waited_for_and_not_left(client: Any, servers: list[FakeServer]) -> None:
    client.score(PAIRS[:1])
    [owner] = [server for server in servers if server.requests]
    owner.refuse(2)
    client.score(PAIRS[:1])
    assert len(owner.requests) == 4
    assert sum(len(server.requests) for server in servers) == 4


def test_replicas_of_different_revisions_do_not_mix(client: Any, servers: list[FakeServer]) -> None:
    servers[1].revision = "sha256:new"
    with pytest.raises(RevisionChanged, match="sha256:new"):
        client.score(PAIRS)


def test_ready_means_all_of_them(client: Any, servers: list[FakeServer]) -> None:
    client.wait_ready(10)
    assert [server.requests[-1].path for server in servers] == ["/readyz"] * 3
    stop(servers[2])
    with pytest.raises(DeadlineExceeded):
        client.wait_ready(10)


@pytest.mark.parametrize("urls", [[], ["http://a", "http://a"], ["http://a", "b"]])
def test_odd_lists_of_replicas_are_refused(urls: list[str]) -> None:
    with pytest.raises(ValueError, match="base_url"):
        RewardClient(urls)


urls = st.lists(
    st.integers(0, 99).map("http://host-{}".format), min_size=2, max_size=8, unique=True
)


@settings(deadline=None)
@given(urls, st.lists(st.text(max_size=5), max_size=30), st.data())
def test_who_goes_takes_only_its_own_share(
    urls: list[str], shared: list[str], data: st.DataObject
) -> None:
    gone = data.draw(st.sampled_from(urls))
    all_of_them = Replicas(tuple(urls), lambda: 0.0)
    without = Replicas(tuple(url for url in urls if url != gone), lambda: 0.0)
    for one in shared:
        order = all_of_them.route(one)
        assert sorted(order) == sorted(urls)
        assert [url for url in order if url != gone] == list(without.route(one))


def test_shares_are_about_equal() -> None:
    replicas = Replicas(tuple(f"http://host-{n}" for n in range(4)), lambda: 0.0)
    firsts = [replicas.route(f"prompt {n}")[0] for n in range(4000)]
    # Binomial: 1,000 expected, standard deviation 27.
    assert all(850 < firsts.count(url) < 1150 for url in replicas.urls)
