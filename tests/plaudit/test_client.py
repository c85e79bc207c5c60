"""Both clients against a real HTTP server that answers as scripted."""

import asyncio
import json
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from time_by_hand import Time

from plaudit import (
    AsyncRewardClient,
    DeadlineExceeded,
    EnsembleScores,
    Group,
    Item,
    ItemsFailed,
    Message,
    ProblemError,
    RevisionChanged,
    RewardClient,
    UnexpectedAnswer,
    Unreachable,
)
from plaudit.client.batches import Budget, split_groups, split_items
from plaudit.client.retry import Clock
from plaudit.client.scores import merge_scores
from plaudit.wire import ItemError, ItemResult, ScoreResponse, Usage

Json = dict[str, Any]
Reply = Callable[["Handler", Json], None]
PROBLEM = {
    "type": "about:blank", "title": "Refused", "status": 422, "detail": "items[0] is odd",
    "remedy": "send another", "retryable": False, "instance": "id-1",
}  # fmt: skip
BAD = {"error": {"type": "too-long", "detail": "9120 tokens, the limit is 4096"}}


def responses(body: Json) -> list[str]:
    if "groups" in body:
        return [text for group in body["groups"] for text in group["responses"]]
    return [item["response"] for item in body["items"]]


def scores(body: Json, revision: str = "sha256:1") -> Json:
    """The reward of response "2.5" is 2.5; of "bad", an error."""
    rewards = [None if text == "bad" else float(text) for text in responses(body)]
    items = [BAD if r is None else {"score": r, "reward": r, "tokens": 3} for r in rewards]
    usage = {"tokens": 3 * len(items), "computed_tokens": len(items), "cached": 0}
    name = body.get("model", "default")
    return {"model": name, "revision": revision, "rewards": rewards, "items": items, "usage": usage}


def ensemble(body: Json) -> Json:
    answer = scores(body)
    rewards = answer["rewards"]
    return answer | {
        "ensemble": body.get("ensemble", "default"),
        "aggregate": body.get("aggregate", "mean"),
        "coefficient": body.get("coefficient", 0.5),
        "degraded": False,
        "mean": rewards,
        "variance": [None if r is None else 0.25 for r in rewards],
        "members": [{"name": "a", "revision": "sha256:a"}, {"name": "b", "revision": "sha256:b"}],
        "member_scores": [None if r is None else [r - 1, r + 1] for r in rewards],
    }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "Scripted"

    def do_POST(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        sent = self.rfile.read(length)
        if len(sent) < length:  # a cancelled client
            self.close_connection = True
            return
        body = json.loads(sent or b"{}")
        self.server.seen.append(Seen(self.path, dict(self.headers), body, self.client_address[1]))
        try:
            reply = self.server.script.popleft()
        except IndexError:
            reply = usual
        reply(self, body)

    do_GET = do_POST

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@dataclass(frozen=True)
class Seen:
    path: str
    headers: dict[str, str]
    body: Json
    port: int


class Scripted(ThreadingHTTPServer):
    """Gives the replies of ``script`` in order, then the usual ones."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script: deque[Reply] = deque()
        self.seen: list[Seen] = []
        self.url = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up resets its connection; that is no news."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


def usual(handler: Handler, body: Json) -> None:
    match handler.path:
        case "/score":
            answer = scores(body)
        case "/ensemble_score":
            answer = ensemble(body)
        case "/models":
            entry = {"name": "warm", "kind": "warm", "revision": "sha256:1", "max_tokens": 4096}
            answer = {"models": [entry | {"dtype": "float32", "members": []}]}
        case _:
            answer = {"status": "ready"}
    handler.answer(200, json.dumps(answer).encode())


def refuse(status: int, **headers: str) -> Reply:
    said = PROBLEM | {"status": status, "retryable": status != 422}
    return lambda handler, _: handler.answer(status, json.dumps(said).encode(), **headers)


def page(status: int) -> Reply:
    """A proxy's own error, which quotes the request."""
    return lambda handler, body: handler.answer(
        status, f"<html>{body}</html>".encode(), Content_Type="text/html"
    )


def as_revision(revision: str) -> Reply:
    return lambda handler, body: handler.answer(200, json.dumps(scores(body, revision)).encode())


def hang_up(handler: Handler, _: Json) -> None:
    handler.close_connection = True


def break_off(handler: Handler, _: Json) -> None:
    handler.close_connection = True
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


@pytest.fixture
def server() -> Iterator[Scripted]:
    with Scripted() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def time() -> Time:
    return Time()


Question = Callable[[Any], Any]
Ask = Callable[..., Any]


@pytest.fixture(params=[RewardClient, AsyncRewardClient])
def ask(request: pytest.FixtureRequest, server: Scripted, time: Time) -> Ask:
    """Puts one question to a client of either kind."""

    usual_options: dict[str, Any] = {"base_url": server.url, "_clock": time.clock()}

    def sync(question: Question, **options: Any) -> Any:
        with RewardClient(**usual_options | options) as client:
            return question(client)

    async def wait(question: Question, **options: Any) -> Any:
        async with AsyncRewardClient(**usual_options | options) as client:
            return await question(client)

    if request.param is RewardClient:
        return sync
    return lambda question, **options: asyncio.run(wait(question, **options))


def one(client: Any) -> Any:
    return client.score([("Hi", "2.5")])


def test_rewards_come_in_request_order_over_many_batches(ask: Ask, server: Scripted) -> None:
    found = ask(lambda c: c.score([("p", str(n)) for n in range(50)]), batch_items=7, concurrency=3)
    assert found.rewards == [float(n) for n in range(50)]
    assert [item.score for item in found.items] == found.rewards
    assert sorted(len(seen.body["items"]) for seen in server.seen) == [1] + [7] * 7
    assert found.usage == Usage(tokens=150, computed_tokens=50, cached=0)
    assert (found.model, found.revision) == ("default", "sha256:1")


def test_an_item_may_be_a_pair_a_dict_or_an_item(ask: Ask, server: Scripted) -> None:
    turn = {"role": "user", "content": "Hi"}
    given = [
        ([turn], "1"),
        ([Message("user", "Hi")], "1"),
        {"prompt": [turn], "response": "1"},
        Item(prompt=[Message("user", "Hi")], response="1"),
    ]
    assert ask(lambda c: c.score(given)).rewards == [1.0] * 4
    assert server.seen[0].body == {"items": [{"prompt": [turn], "response": "1"}] * 4}


@pytest.mark.parametrize("odd", [("p", 3), ("p", "r", "x"), {"query": "p"}, "text"])
def test_what_is_no_item_is_named_by_position(ask: Ask, server: Scripted, odd: object) -> None:
    with pytest.raises(ValueError, match="item 1: "):
        ask(lambda c: c.score([("p", "1"), odd]))
    assert not server.seen


def test_half_a_character_is_named_by_position_and_nothing_is_sent(
    ask: Ask, server: Scripted
) -> None:
    with pytest.raises(ValueError, match="item 1: character 4 of a text is one half of a pair"):
        ask(lambda c: c.score([("p", "1"), ("p", "bad \ud83d")]))
    with pytest.raises(ValueError, match="group 0: character 0"):
        ask(lambda c: c.score_groups([("\ud83d", ["1"])]))
    assert not server.seen


def test_a_failed_item_is_none_and_says_why(ask: Ask) -> None:
    found = ask(lambda c: c.score([("p", "0"), ("p", "bad")]))
    assert found.rewards == [0.0, None]
    assert found.items[1].error == ItemError("too-long", "9120 tokens, the limit is 4096")
    with pytest.raises(ItemsFailed, match=r"1 of 2 .*item 1: too-long, 9120 tokens") as raised:
        found.raise_for_errors()
    assert list(pickle.loads(pickle.dumps(raised.value)).errors) == [1]


def faulty(handler: Handler, body: Json) -> None:
    """The last item met a fault of the engine."""
    answer = scores(body)
    answer["rewards"][-1] = None
    answer["items"][-1] = {"error": {"type": "engine-fault", "detail": "MemoryError in a batch"}}
    handler.answer(200, json.dumps(answer).encode())


def two(client: Any) -> Any:
    return client.score([("q", "1"), ("q", "2")])


def test_a_fault_of_the_engine_is_asked_again_where_that_is_wanted(
    ask: Ask, server: Scripted, time: Time
) -> None:
    server.script += [faulty, faulty, faulty]
    assert ask(two).rewards == [1.0, None]
    assert time.pauses == []
    assert ask(two, retry_faults=True).rewards == [1.0, 2.0]
    assert time.pauses == [0.5, 1.0]


def test_a_fault_of_the_engine_that_stays_is_raised_in_the_end(
    ask: Ask, server: Scripted, time: Time
) -> None:
    server.script += [faulty, faulty]
    with pytest.raises(ProblemError, match="item 1 of the request: MemoryError in a batch"):
        ask(two, retry_faults=True, max_retries=1)
    server.script += [faulty] * 20
    with pytest.raises(DeadlineExceeded, match="MemoryError in a batch"):
        ask(two, retry_faults=True, timeout_seconds=10.0)


def test_no_failed_item_no_exception(ask: Ask) -> None:
    ask(one).raise_for_errors()


def test_an_empty_list_still_learns_the_model(ask: Ask, server: Scripted) -> None:
    found = ask(lambda c: c.score([]))
    assert (found.rewards, found.revision) == ([], "sha256:1")
    assert server.seen[0].body == {"items": []}


def test_groups_come_back_flat(ask: Ask, server: Scripted) -> None:
    groups = [("a", ["1", "2"]), Group("b", ["3"]), {"prompt": "c", "responses": ["4"]}]
    assert ask(lambda c: c.score_groups(groups), batch_items=3).rewards == [1.0, 2.0, 3.0, 4.0]
    assert sorted(len(seen.body["groups"]) for seen in server.seen) == [1, 2]


def test_an_ensemble_answers_with_its_members(ask: Ask, server: Scripted) -> None:
    found: EnsembleScores = ask(
        lambda c: c.ensemble_score(
            [("p", "1"), ("p", "bad"), ("p", "3")],
            ensemble="e",
            aggregate="uwo",
            coefficient=0.0,
            truncation="left",
        ),
        batch_items=2,
    )
    assert (found.rewards, found.mean) == ([1.0, None, 3.0], [1.0, None, 3.0])
    assert found.variance == [0.25, None, 0.25]
    assert found.member_scores == [[0.0, 2.0], None, [2.0, 4.0]]
    assert [member.name for member in found.members] == ["a", "b"]
    assert (found.ensemble, found.aggregate, found.coefficient) == ("e", "uwo", 0.0)
    assert {seen.body["coefficient"] for seen in server.seen} == {0.0}


def test_the_model_of_a_call_wins_over_the_clients(ask: Ask, server: Scripted) -> None:
    assert ask(one, model="a").model == "a"
    assert ask(lambda c: c.score([], model="b", truncation="left"), model="a").model == "b"
    assert server.seen[1].body == {"model": "b", "items": [], "truncation": "left"}


def test_lists_the_models(ask: Ask) -> None:
    assert [model.name for model in ask(lambda c: c.models())] == ["warm"]


def test_passing_refusals_are_retried_as_asked(ask: Ask, server: Scripted, time: Time) -> None:
    server.script += [refuse(503, Retry_After="2"), refuse(429, retry_after_ms="250"), refuse(504)]
    assert ask(one).rewards == [2.5]
    assert time.pauses == [2.0, 0.25, 2.0]
    assert len({json.dumps(seen.body) for seen in server.seen}) == 1
    told = [int(seen.headers["X-Request-Deadline-Ms"]) for seen in server.seen]
    counts = [seen.headers.get("X-Plaudit-Retry-Count") for seen in server.seen]
    assert counts == [None, *map(str, range(1, len(counts)))]
    assert told == [120_000, 118_000, 117_750, 115_750]


@pytest.mark.parametrize("lose", [hang_up, break_off])
def test_lost_connections_are_retried(ask: Ask, server: Scripted, time: Time, lose: Reply) -> None:
    server.script += [lose, lose]
    assert ask(one).rewards == [2.5]
    assert time.pauses == [0.5, 1.0]


def test_nobody_listening_is_unreachable_in_the_end(ask: Ask, time: Time) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://me:secret@127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(Unreachable, match="no answer from http://127") as raised:
            ask(one, base_url=url, max_retries=3)
    assert time.pauses == [0.5, 1.0, 2.0]
    assert "secret" not in str(raised.value)
    assert pickle.loads(pickle.dumps(raised.value)).detail == raised.value.detail


def test_a_proxys_page_is_retried_then_raised_unquoted(
    ask: Ask, server: Scripted, time: Time
) -> None:
    server.script += [page(502)] * 3
    with pytest.raises(ProblemError, match=r"502 Bad Gateway: .*text/html") as raised:
        ask(one, max_retries=2)
    assert raised.value.status == 502
    assert len(time.pauses) == 2
    assert "2.5" not in str(raised.value)


def test_a_proxys_page_for_a_lasting_error_is_raised_at_once(ask: Ask, server: Scripted) -> None:
    server.script += [page(404)]
    with pytest.raises(ProblemError, match=r"404 Not Found: .*check base_url"):
        ask(one)


def test_a_problem_is_raised_at_once_with_detail_and_remedy(
    ask: Ask, server: Scripted, time: Time
) -> None:
    server.script += [refuse(422)]
    with pytest.raises(ProblemError, match=r"422 Refused: items\[0\] is odd \(send") as raised:
        ask(one)
    assert not time.pauses
    again = pickle.loads(pickle.dumps(raised.value))
    assert (again.status, again.problem.instance) == (422, "id-1")


def test_one_failed_batch_ends_the_call(ask: Ask, server: Scripted) -> None:
    server.script += [usual, usual, refuse(422)]
    with pytest.raises(ProblemError, match="422"):
        ask(lambda c: c.score([("p", "1")] * 2000), batch_items=1, concurrency=2)
    assert len(server.seen) < 2000


def test_a_failed_batch_wakes_the_waiting_ones(ask: Ask, server: Scripted) -> None:
    server.script += [refuse(503, Retry_After="50"), refuse(422)]
    others = set(threading.enumerate())
    with pytest.raises(ProblemError, match="422"):
        ask(lambda c: c.score([("p", "1")] * 2), batch_items=1, _clock=Clock())
    own = set(threading.enumerate()) - others
    for thread in [one for one in own if "PoolExecutor" in one.name]:
        thread.join(10)
        assert not thread.is_alive()


def test_a_connection_that_a_failed_call_was_still_opening_is_closed(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = socket.create_connection
    second_begun, first_failed = threading.Event(), threading.Event()
    slow: list[socket.socket] = []
    turn = iter(range(2))

    def one_slowly(*args: Any, **options: Any) -> socket.socket:
        if next(turn) == 0:
            assert second_begun.wait(60)
            return connect(*args, **options)
        second_begun.set()
        assert first_failed.wait(60)
        slow.append(connect(*args, **options))
        return slow[0]

    monkeypatch.setattr(socket, "create_connection", one_slowly)
    server.script += [refuse(422)]
    others = set(threading.enumerate())
    with RewardClient(server.url, batch_items=1) as client, pytest.raises(ProblemError):
        client.score([("p", "1")] * 2)
    left = [one for one in set(threading.enumerate()) - others if "PoolExecutor" in one.name]
    first_failed.set()
    for thread in left:
        thread.join(60)
    assert [one.fileno() for one in slow] == [-1]


def test_a_retry_that_would_be_late_is_not_waited_for(
    ask: Ask, server: Scripted, time: Time
) -> None:
    server.script += [refuse(503, Retry_After="60")]
    with pytest.raises(DeadlineExceeded, match="within 10 s; the last attempt: 503 Refused"):
        ask(one, timeout_seconds=10)
    assert not time.pauses


def test_a_silent_server_ends_at_the_deadline(ask: Ask, server: Scripted) -> None:
    over = threading.Event()

    def say_nothing(handler: Handler, body: Json) -> None:
        over.wait(30)
        hang_up(handler, body)

    server.script += [say_nothing]
    with pytest.raises(DeadlineExceeded, match=r"within 0\.1 s"):
        ask(one, timeout_seconds=0.1)
    over.set()


def test_a_body_that_drips_past_the_deadline_is_not_read_on(server: Scripted, time: Time) -> None:
    def drip(handler: Handler, body: Json) -> None:
        time.seconds += 120
        usual(handler, body)

    server.script += [drip]
    with (
        RewardClient(server.url, _clock=time.clock()) as client,
        pytest.raises(DeadlineExceeded, match="within 120 s"),
    ):
        one(client)


def test_batches_that_start_after_the_deadline_are_not_sent(
    ask: Ask, server: Scripted, time: Time
) -> None:
    def take_a_minute(handler: Handler, body: Json) -> None:
        time.seconds += 60
        usual(handler, body)

    server.script += [take_a_minute] * 3
    with pytest.raises(DeadlineExceeded):
        ask(lambda c: c.score([("p", "1")] * 5), batch_items=1, concurrency=1, timeout_seconds=100)
    assert len(server.seen) == 2


def test_two_revisions_in_one_call_do_not_mix(ask: Ask, server: Scripted) -> None:
    server.script += [as_revision("sha256:1"), as_revision("sha256:2")]
    with pytest.raises(RevisionChanged, match="sha256:2") as raised:
        ask(lambda c: c.score([("p", "1")] * 2), batch_items=1)
    assert len(pickle.loads(pickle.dumps(raised.value)).revisions) == 2


def test_two_aggregates_in_one_call_do_not_mix(ask: Ask, server: Scripted) -> None:
    def by(aggregate: str) -> Reply:
        return lambda handler, body: handler.answer(
            200, json.dumps(ensemble(body) | {"aggregate": aggregate}).encode()
        )

    server.script += [by("mean"), by("uwo")]
    with pytest.raises(RevisionChanged, match=r"sha256:1 (mean|uwo) 0\.5, default"):
        ask(lambda c: c.ensemble_score([("p", "1")] * 2), batch_items=1)


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (page(200), "not a ScoreResponse"),
        (lambda h, b: usual(h, {"items": b["items"] * 2}), "1 items were sent, and 2 came back"),
        (lambda h, b: h.answer(200, json.dumps(scores(b) | {"rewards": [None]}).encode()), "both"),
    ],
)
def test_an_answer_that_does_not_fit_is_not_guessed_at(
    ask: Ask, server: Scripted, reply: Reply, message: str
) -> None:
    server.script += [reply]
    with pytest.raises(UnexpectedAnswer, match=message):
        ask(one)


def test_waits_until_the_service_is_ready(ask: Ask, server: Scripted, time: Time) -> None:
    server.script += [hang_up, *[refuse(503)] * 30]
    ask(lambda c: c.wait_ready(60))
    assert {seen.path for seen in server.seen} == {"/readyz"}
    assert time.pauses == [0.5] + [1.0] * 30


def test_readiness_has_a_deadline_and_a_bad_key_ends_it(ask: Ask, server: Scripted) -> None:
    server.script += [refuse(503)] * 5
    with pytest.raises(DeadlineExceeded):
        ask(lambda c: c.wait_ready(3))
    server.script = deque([refuse(401)])
    with pytest.raises(ProblemError, match="401"):
        ask(lambda c: c.wait_ready(3))


def test_the_key_is_sent_as_bearer(ask: Ask, server: Scripted) -> None:
    ask(one, api_key="k-1", base_url=server.url + "/")
    assert server.seen[0].headers["Authorization"] == "Bearer k-1"
    assert server.seen[0].path == "/score"


@pytest.mark.parametrize(
    "options",
    [
        {"api_key": "read-from-a-file\n"},
        {"base_url": "localhost:8000"},
        {"timeout_seconds": 0.0},
        {"batch_items": 0},
        {"concurrency": 0},
        {"max_retries": -1},
    ],
)
@pytest.mark.parametrize("kind", [RewardClient, AsyncRewardClient])
def test_options_no_call_could_work_with_are_refused(
    kind: type[RewardClient], options: Any
) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        kind(**{"base_url": "http://localhost"} | options)


def test_connections_are_kept(server: Scripted) -> None:
    with RewardClient(server.url) as client:
        assert one(client) == one(client)
    assert len({seen.port for seen in server.seen}) == 1


def test_a_used_client_pickles(server: Scripted) -> None:
    with RewardClient(server.url, "k-1", batch_items=3) as client:
        one(client)
        copy = pickle.loads(pickle.dumps(client))
    with copy:
        assert one(copy).rewards == [2.5]
    assert copy._options == client._options


def test_a_closed_client_opens_again(server: Scripted) -> None:
    with RewardClient(server.url) as client:
        client.close()
        assert one(client).rewards == [2.5]


def test_an_async_client_outlives_its_loop(server: Scripted) -> None:
    client = AsyncRewardClient(server.url)

    async def use() -> object:
        async with client:
            return await one(client)

    assert asyncio.run(use()) == asyncio.run(use())


def test_a_forked_worker_scores_through_the_same_object(server: Scripted) -> None:
    with RewardClient(server.url, batch_items=2, concurrency=2) as client:
        before = one(client)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                found = client.score([("p", str(n)) for n in range(5)])
                os.write(writer, json.dumps(found.rewards).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with open(reader) as pipe:
            assert json.load(pipe) == [0.0, 1.0, 2.0, 3.0, 4.0]
        assert os.waitpid(child, 0)[1] == 0
        assert one(client) == before
    ports = [seen.port for seen in server.seen]
    assert ports[0] not in ports[1:-1]


def test_importing_plaudit_is_light() -> None:
    program = """
import sys
import plaudit
assert all(getattr(plaudit, name) for names in plaudit.HOMES.values() for name in names)
heavy = {"torch", "transformers", "fastapi", "starlette", "numpy", "pydantic"} & set(sys.modules)
assert not heavy, heavy
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def two_ways(shared: object) -> tuple[str, ...]:
    """By the prompt's length, as a hash would."""
    return ("a", "b") if len(repr(shared)) % 2 else ("b", "a")


items = st.lists(st.tuples(st.text(max_size=3), st.integers().map(str)), max_size=40)
groups = st.lists(st.tuples(st.text(max_size=2), st.lists(st.text(max_size=2), max_size=9)))


@settings(deadline=None)
@given(items, st.integers(1, 9), st.integers(1, 99))
def test_split_and_merged_every_item_comes_once_in_order(
    given_items: list[tuple[str, str]], batch_items: int, batch_tokens: int
) -> None:
    batches = split_items(given_items, Budget(batch_items, batch_tokens), two_ways)
    assert all(0 < batch.size <= batch_items for batch in batches) or not given_items
    answers = [echo([item.response for item in batch.items or []]) for batch in batches]
    merged = merge_scores(answers, [batch.places for batch in batches])
    assert merged.rewards == [float(text) for _, text in given_items]


def echo(texts: list[str | None]) -> ScoreResponse:
    rewards: list[float | None] = [float(text) for text in texts if text is not None]
    return ScoreResponse("m", "r", rewards, [ItemResult() for _ in texts], Usage(0, 0, 0))


@settings(deadline=None)
@given(groups, st.integers(1, 5), st.integers(1, 40))
def test_split_groups_keep_each_response_with_its_prompt(
    given_groups: list[tuple[str, list[str]]], batch_items: int, batch_tokens: int
) -> None:
    batches = split_groups(given_groups, Budget(batch_items, batch_tokens), two_ways)
    assert all(batch.size <= batch_items for batch in batches)
    sent = [group for batch in batches for group in batch.groups or []]
    flat = [(group.prompt, text) for group in sent for text in group.responses]
    places = [place for batch in batches for place in batch.places]
    asked = [(prompt, text) for prompt, texts in given_groups for text in texts]
    assert sorted(places) == list(range(len(asked)))
    assert flat == [asked[place] for place in places]
