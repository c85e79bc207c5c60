"""What a request carries: its size, its id, the caller's trace and headers, the pinned revision."""

import asyncio
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from time_by_hand import Time

from plaudit import (
    AsyncRewardClient,
    DeadlineExceeded,
    PlauditError,
    ProblemError,
    RevisionChanged,
    RewardClient,
    Unreachable,
)
from plaudit.client.batches import estimated_tokens
from plaudit.testing import FakeServer
from plaudit.wire import Item, Message

Json = dict[str, Any]
Ask = Callable[..., Any]
# 9 bytes: 3 tokens, and 4 for a message.
NINE = "123456789"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


@pytest.fixture(params=[RewardClient, AsyncRewardClient])
def ask(request: pytest.FixtureRequest, server: FakeServer) -> Ask:
    """Puts one question to a client of either kind."""

    def sync(question: Callable[[Any], Any], **options: Any) -> Any:
        with RewardClient(server.url, _clock=Time().clock(), **options) as client:
            return question(client)

    async def wait(question: Callable[[Any], Any], **options: Any) -> Any:
        async with AsyncRewardClient(server.url, _clock=Time().clock(), **options) as client:
            return await question(client)

    if request.param is RewardClient:
        return sync
    return lambda question, **options: asyncio.run(wait(question, **options))


def one(client: Any) -> Any:
    return client.score([("Hi", "Hello")])


def bodies(server: FakeServer) -> list[Json]:
    return sorted((json.loads(received.body) for received in server.requests), key=str)


@pytest.mark.parametrize(
    ("item", "tokens"),
    [
        (Item(prompt="", response=""), 8),
        (Item(prompt=NINE, response=NINE), 14),
        (Item(prompt=[Message("system", NINE), Message("user", NINE)], response=NINE), 21),
        (Item(messages=[Message("user", NINE), Message("assistant", NINE)]), 14),
        (Item(text=NINE), 3),
        (Item(text="鸡蛋"), 2),
        (Item(token_ids=[1, 2, 3, 4, 5]), 5),
    ],
)
def test_tokens_are_estimated_from_bytes_messages_and_ids(item: Item, tokens: int) -> None:
    assert estimated_tokens(item) == tokens


def test_items_are_batched_by_estimated_tokens(ask: Ask, server: FakeServer) -> None:
    given = [Item(token_ids=[1] * size) for size in (4, 4, 3, 9, 30, 1, 9)]
    found = ask(lambda c: c.score(given), batch_tokens=10)
    sizes = [[len(item["token_ids"]) for item in body["items"]] for body in bodies(server)]
    assert sorted(sizes) == [[1, 9], [3], [4, 4], [9], [30]]
    assert [item.tokens for item in found.items] == [4, 4, 3, 9, 30, 1, 9]


def test_groups_stay_whole_where_their_tokens_fit(ask: Ask, server: FakeServer) -> None:
    groups = [(NINE, [NINE] * 2), (NINE, [NINE]), (NINE, [NINE] * 5)]
    found = ask(lambda c: c.score_groups(groups), batch_tokens=28)
    sent = [[len(group["responses"]) for group in body["groups"]] for body in bodies(server)]
    # 21 and 14 tokens do not share 28; 42 is cut into 28 with its prompt, and 21.
    assert sorted(sent) == [[1], [2], [2], [3]]
    assert len(found.rewards) == 8


def test_failures_name_the_request_that_the_service_saw(ask: Ask, server: FakeServer) -> None:
    server.refuse(status=500)
    with pytest.raises(ProblemError) as raised:
        ask(one)
    sent = server.requests[0].headers["x-request-id"]
    assert raised.value.request_id == sent == raised.value.problem.instance
    assert f"[request {sent}]" in str(raised.value)
    assert pickle.loads(pickle.dumps(raised.value)).request_id == sent


def test_retries_of_a_request_keep_its_id_and_others_have_their_own(
    ask: Ask, server: FakeServer
) -> None:
    server.refuse(2)
    server.drop(1)
    ask(lambda c: c.score([("p", "r")] * 2), batch_items=1, concurrency=1)
    ids = [received.headers["x-request-id"] for received in server.requests]
    assert len(ids) == 5
    assert len(set(ids)) == 2
    assert ids[0] == ids[1]


@pytest.mark.parametrize("kind", [DeadlineExceeded, Unreachable])
def test_lost_requests_are_named_too(
    ask: Ask, server: FakeServer, kind: type[PlauditError]
) -> None:
    server.drop(9)
    limits: Json = {"timeout_seconds": 1.0} if kind is DeadlineExceeded else {"max_retries": 2}
    with pytest.raises(kind) as raised:
        ask(one, **limits)
    assert raised.value.request_id == server.requests[0].headers["x-request-id"]


def test_headers_are_asked_for_once_a_call(ask: Ask, server: FakeServer) -> None:
    asked = []

    def headers() -> Mapping[str, str]:
        asked.append("once")
        return {"X-Priority": "eval", "traceparent": "00-" + 32 * "1" + "-" + 16 * "2" + "-01"}

    ask(lambda c: c.score([("p", "r")] * 3), batch_items=1, headers=headers)
    assert asked == ["once"]
    assert [received.headers["x-priority"] for received in server.requests] == ["eval"] * 3
    assert {received.headers["traceparent"][:5] for received in server.requests} == {"00-11"}


def test_headers_of_the_client_are_not_the_callers(ask: Ask, server: FakeServer) -> None:
    with pytest.raises(ValueError, match=r"headers gives \['authorization', 'x-request-id'\]"):
        ask(one, headers=lambda: {"X-Request-Id": "1", "Authorization": "Bearer other"})
    assert not server.requests


def test_the_span_of_the_caller_goes_along(ask: Ask, server: FakeServer) -> None:
    trace = pytest.importorskip("opentelemetry.trace")
    context = trace.SpanContext(0xABC, 0xDEF, is_remote=False, trace_flags=trace.TraceFlags(1))
    ask(one)
    with trace.use_span(trace.NonRecordingSpan(context)):
        ask(lambda c: c.score([("p", "r")] * 2), batch_items=1)
    sent = [received.headers.get("traceparent") for received in server.requests]
    assert sent == [None] + 2 * [f"00-{0xABC:032x}-{0xDEF:016x}-01"]


def test_a_pinned_client_scores_with_no_other_revision(ask: Ask, server: FakeServer) -> None:
    pinned = server.revision
    assert ask(one, revision=pinned).revision == pinned
    server.revision = "sha256:new"
    for question in (
        one,
        lambda c: c.score_groups([("p", ["r"])]),
        lambda c: c.ensemble_score([("p", "r")]),
    ):
        with pytest.raises(
            RevisionChanged, match=r"was asked for, and the service has sha256:new"
        ) as raised:
            ask(question, revision=pinned)
        again = pickle.loads(pickle.dumps(raised.value))
        assert (again.pinned, again.revisions) == (pinned, ["sha256:new"])
    assert ask(one).revision == "sha256:new"


def test_a_call_may_pin_another_revision_than_its_client(ask: Ask, server: FakeServer) -> None:
    own = server.revision
    found = ask(lambda c: c.score([("p", "r")], revision=own), revision="sha256:old")
    assert found.revision == own
