"""``plaudit bench`` against a real server of a tiny model, and against one that stalls."""

import asyncio
import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from contextlib import asynccontextmanager

import msgspec
import pytest

from plaudit import cli
from plaudit.client.retry import REAL_CLOCK
from plaudit.wire import ScoreRequest
from service.bench.open_loop import drive
from service.bench.sending import Sender, most_connections
from service.bench.texts import MARK, BenchError, generated, read
from service.bench.workload import Bodies, Shape, Target, of_file

ANSWER = json.dumps(
    {"rewards": [1.0], "usage": {"tokens": 7, "computed_tokens": 7, "cached": 0}}
).encode()
PROBLEM = json.dumps({
    "type": "https://example.org/problems.md#overloaded", "title": "t", "status": 503,
    "detail": "d", "remedy": "r", "retryable": True, "instance": "i",
}).encode()  # fmt: skip


class Http:
    """A tiny HTTP server. ``answer(n)`` gives status and body of request ``n``, when it likes."""

    def __init__(self, answer):
        self._answer, self.seen = answer, 0
        self.handlers = []

    async def handle(self, reader, writer):
        self.handlers.append(asyncio.current_task())
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                said = head.lower().partition(b"content-length: ")[2]
                length = int(said.split(b"\r\n")[0] or 0)  # a GET has no body
                await reader.readexactly(length)
                self.seen += 1
                status, body = await self._answer(self.seen)
                writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n".encode())
                writer.write(body)
        except asyncio.IncompleteReadError:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def served(answer):
    http = Http(answer)
    server = await asyncio.start_server(http.handle, "127.0.0.1", 0)
    sender = Sender(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", None, 60)
    try:
        yield http, sender
    finally:
        await sender.close()
        await asyncio.gather(*http.handlers)
        server.close()


async def test_requests_keep_coming_while_the_server_stalls():
    enough = asyncio.Event()

    async def stalls_until_ten_more_have_come(number):
        if number == 25:  # a loop that waits for answers never sends it
            enough.set()
        if number >= 15:
            await enough.wait()
        return 200, ANSWER

    async with served(stalls_until_ten_more_have_come) as (http, sender):
        offsets = [n / 200 for n in range(40)]
        samples = await drive(offsets, lambda n: sender.post("/score", b"{}"), 100, REAL_CLOCK)
    assert http.seen == 40
    assert all(one.answer.outcome == "ok" for one in samples)
    # From the 15th to the 25th that came, none was answered before 25 had been sent: by then the
    # stall is over, and later ones are answered at once.
    the_25th_was_sent = sorted(one.sent for one in samples)[24]
    assert sum(one.done >= the_25th_was_sent for one in samples) >= 40 - 14


async def test_failures_are_counted_by_problem_type_and_not_tried_again():
    async def every_third_fails(number):
        return [(200, ANSWER), (503, PROBLEM), (502, b"<html>")][number % 3]

    async with served(every_third_fails) as (http, sender):
        answers = [await sender.post("/score", b"{}") for _ in range(9)]
        assert http.seen == 9
    assert Counter((one.status, one.outcome) for one in answers) == {
        (200, "ok"): 3,
        (503, "overloaded"): 3,
        (502, "http-502"): 3,
    }
    lost = await sender_to_nobody()
    assert (lost.status, lost.outcome) == (0, "connection: ConnectError")


async def sender_to_nobody():
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    sender = Sender(f"http://127.0.0.1:{port}", None, 60)
    try:
        return await sender.post("/score", b"{}")
    finally:
        await sender.close()


def test_connections_leave_descriptors_for_the_process_itself():
    assert most_connections(lambda _: (1024, 4096)) < 1024
    assert most_connections(lambda _: (64, 64)) == 1
    assert most_connections(lambda _: (10**6, 10**6)) == 4096


def bodies_of(kind: str, run: str = "0a1b2c3d") -> Bodies:
    shape = Shape(kind, groups=3, responses=4, distinct=5)
    return Bodies(shape, Target(None, None, "error"), generated(6, 9, 4, seed=0), 8, run)


def test_no_generated_text_comes_twice_unless_repeats_are_asked_for():
    groups, single, repeats = (bodies_of(kind) for kind in ("groups", "single", "repeats"))
    request = msgspec.json.decode(groups.body(0), type=ScoreRequest)
    assert [len(group.responses) for group in request.groups] == [4, 4, 4]
    assert len(request.groups[0].prompt.split()) == 1 + 6
    assert all(len(text.split()) == 9 for g in request.groups for text in g.responses)
    assert len({groups.body(n) for n in range(100)}) == 100
    assert len({single.body(n) for n in range(100)}) == 100
    assert len({repeats.body(n) for n in range(100)}) == 5
    assert MARK.encode() not in groups.body(1)


@pytest.mark.parametrize(("kind", "requests"), [("groups", 1000), ("single", 6000)])
def test_all_of_a_users_file_is_sent_before_any_of_it_comes_again(tmp_path, kind, requests):
    data = tmp_path / "data.jsonl"
    rows = [{"prompt": f"p{n}", "responses": [f"a{n}", f"b{n}"]} for n in range(3000)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    shape = Shape(kind, groups=3, responses=2, distinct=5)
    bodies = of_file(shape, Target(None, None, "error"), read(data), "0a1b2c3d")
    sent = b"".join(bodies.body(n) for n in range(requests))
    found = re.findall(r'"([ab]\d+)"', sent.decode())
    assert sorted(found) == sorted(f"{one}{n}" for n in range(3000) for one in "ab")
    assert bodies.body(requests) == bodies.body(0)


@pytest.mark.parametrize("kind", ["groups", "single", "repeats"])
def test_the_same_seed_makes_other_texts_of_the_same_lengths_in_each_run(kind):
    first, again = (bodies_of(kind, run) for run in ("0a1b2c3d", "4e5f6071"))
    assert not {first.body(n) for n in range(20)} & {again.body(n) for n in range(20)}
    assert [len(first.body(n)) for n in range(20)] == [len(again.body(n)) for n in range(20)]


@pytest.fixture
def bench(listen, tiny_checkpoint, tmp_path, monkeypatch, capsys):
    """``bench("--rates", "5")`` against a real server: its report, page and what it printed."""
    monkeypatch.setenv("PLAUDIT_CLIENT_API_KEY", "canary-key")

    def run(*flags):
        with listen(models=[tiny_checkpoint], api_keys="canary-key") as url:
            status = cli.main(["bench", url, "--out", str(tmp_path / "r"), *flags])
        said = capsys.readouterr()
        assert status in (0, 1), said.err  # 1: a busy machine makes figures invalid
        page = (tmp_path / "r.html").read_text()
        assert "canary" not in page + said.out + said.err + (tmp_path / "r.json").read_text()
        return json.loads((tmp_path / "r.json").read_text()), page, said.out

    return run


QUICK = ("--seconds", "1", "--warmup-seconds", "0", "--slo-ms", "60000", "--arrivals", "constant")


def test_a_bench_of_a_real_server_counts_what_it_scored(bench):
    report, page, out = bench(
        *QUICK, "--rates", "4", "6", "--groups", "2", "--responses", "3",
        "--prompt-tokens", "120", "--response-tokens", "80",
    )  # fmt: skip
    slow, fast = report["rates"]
    assert (slow["sent"], fast["sent"]) == (4, 6)
    assert (slow["outcomes"], fast["statuses"]) == ({"ok": 4}, {"200": 6})
    assert slow["cached_share"] == 0
    assert slow["items_per_second"] == pytest.approx(6 * slow["achieved"])
    # The tiny model's tokens are bytes: words of other lengths leave some spread.
    assert slow["tokens_per_item"] == pytest.approx(200, rel=0.2)
    assert report["models"][0]["name"] == "m0"
    assert "6" in out
    svg = page[page.index("<svg") : page.index("</svg>") + len("</svg>")]
    drawn = ElementTree.fromstring(svg)
    assert len(drawn.findall("{*}polyline")) == 2
    assert len(drawn.findall("{*}circle")) == 4
    assert "src=" not in page
    assert "href=" not in page


def test_repeats_are_answered_from_the_cache_and_said_to_be(bench):
    report, page, _ = bench(*QUICK, "--rates", "20", "--workload", "repeats", "--distinct", "2")
    assert report["rates"][0]["cached_share"] >= 0.5
    assert "of items from the cache" in page


def test_a_users_texts_are_sent_as_they_are(bench, tmp_path):
    file = tmp_path / "mine.jsonl"
    rows = [
        {"prompt": "One?", "response": "Yes.", "score": 3},
        {"prompt": [{"role": "user", "content": "Two?"}], "responses": ["No.", "Perhaps."]},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report, _, _ = bench(
        *QUICK, "--rates", "2", "--data", str(file), "--groups", "2", "--responses", "2"
    )
    assert report["rates"][0]["outcomes"] == {"ok": 2}
    assert report["data"] == str(file)
    assert report["tokens"] is None


def test_two_runs_of_a_seed_are_both_computed(listen, tiny_checkpoint, tmp_path):
    flags = [*QUICK, "--rates", "3", "--workload", "single", "--out", str(tmp_path / "r")]
    with listen(models=[tiny_checkpoint]) as url:
        for _ in range(2):
            assert cli.main(["bench", url, *flags, "--seed", "7"]) in (0, 1)
            assert json.loads((tmp_path / "r.json").read_text())["rates"][0]["cached_share"] == 0


def test_a_name_that_is_not_loaded_is_answered_with_those_that_are(
    listen, tiny_checkpoint, tmp_path, capsys
):
    with listen(models=[tiny_checkpoint]) as url:
        flags = ["--model", "nosuch", "--out", str(tmp_path / "r")]
        assert cli.main(["bench", url, *flags]) == 2
    said = capsys.readouterr().err
    assert "404 unknown-model" in said
    assert tiny_checkpoint.name in said
    assert "KEY" not in said


def test_a_key_that_does_not_score_is_said_with_the_scope_that_it_lacks(
    listen, tiny_checkpoint, tmp_path, capsys, monkeypatch
):
    (tmp_path / "keys").write_text("trainer:scores scope=score\nprometheus:looks scope=metrics\n")
    monkeypatch.setenv("PLAUDIT_CLIENT_API_KEY", "looks")
    with listen(models=[tiny_checkpoint], api_keys_file=tmp_path / "keys") as url:
        assert cli.main(["bench", url, "--out", str(tmp_path / "r")]) == 2
    said = capsys.readouterr().err
    assert "403: this key of prometheus has no scope score; use a key with the scope" in said
    assert "correct the URL" not in said


async def test_the_admin_port_is_recognised():
    async def probes_only(number):
        return (404, b"{}") if number == 1 else (200, b'{"status":"alive"}')

    async with served(probes_only) as (_, sender):
        with pytest.raises(BenchError, match="is it the admin port"):
            await sender.models()


@pytest.mark.parametrize(
    ("line", "said"),
    [("{", "bad.jsonl:1:"), ('{"prompt": "a"}', "add response"), ("", "no line")],
)
def test_a_bad_file_of_texts_is_refused_with_its_line(
    line, said, listen, tiny_checkpoint, tmp_path, capsys
):
    file = tmp_path / "bad.jsonl"
    file.write_text(line)
    with listen(models=[tiny_checkpoint]) as url:
        assert cli.main(["bench", url, "--data", str(file), "--out", str(tmp_path / "r")]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--model", "a", "--ensemble", "b"], "leave out one"),
        (["--find-knee", "--rates", "1", "2"], "begins at one rate"),
        (["--out", "/nowhere/at/all"], "mkdir -p /nowhere/at"),
    ],
)
def test_options_that_do_not_go_together_are_refused(flags, said, capsys):
    assert cli.main(["bench", "http://127.0.0.1:1", *flags]) == 2
    assert said in capsys.readouterr().err


def test_an_absent_server_is_said_with_what_starts_one(tmp_path, capsys):
    url = "http://user:canary@127.0.0.1:1"
    assert cli.main(["bench", url, "--out", str(tmp_path / "r")]) == 2
    said = capsys.readouterr().err
    assert "plaudit serve" in said
    assert "canary" not in said
