"""S8, S9 and S15: sockets that misbehave, against ``plaudit serve`` as a process of its own.

While each attack runs, another caller's requests are answered, and the process does not grow.
"""

import gzip
import json
import re
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import psutil
import pytest
import uvicorn
from served_process import ServedProcess

from service.receiving import Receiving

RECEIVE_SECONDS = 3.0
MAX_BODY = 1_000_000
MAX_GROWTH = 16 * 2**20
# Long beyond every bound: only a server that waits for ever fails it.
PATIENCE_SECONDS = 60.0
BODY = json.dumps({"items": [{"token_ids": [5, 6, 7]}]}).encode()
STREAM = b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def server(tiny_checkpoint: Path) -> Iterator[ServedProcess]:
    process = ServedProcess(
        [tiny_checkpoint], "--receive-seconds", str(RECEIVE_SECONDS), "--max-body-megabytes", "1"
    )
    try:
        process.wait()
        with httpx2.Client() as client:  # what is loaded at first use is loaded
            for path in ("/score", "/livez", "/openapi.json", "/metrics", "/models"):
                client.request("POST" if path == "/score" else "GET", process.url + path,
                               content=BODY)  # fmt: skip
        yield process
    finally:
        process.kill()


def connect(server: ServedProcess) -> socket.socket:
    at = urlsplit(server.url)
    assert at.hostname
    caller = socket.create_connection((at.hostname, at.port))
    caller.settimeout(PATIENCE_SECONDS)
    return caller


def rest(caller: socket.socket) -> bytes:
    """What comes until the server closes."""
    found = b""
    try:
        while part := caller.recv(65536):
            found += part
    except ConnectionResetError:
        pass  # it closed while we were sending
    return found


def flood(caller: socket.socket, part: bytes, most: int) -> int:
    """Send a part over and over, until the server closes; the bytes that it took."""
    sent = 0
    try:
        while sent < most:
            caller.sendall(part)
            sent += len(part)
    except OSError:
        pass
    return sent


def statuses(answer: bytes) -> list[int]:
    return [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]


class Traffic:
    """Another caller, who keeps asking."""

    def __init__(self, url: str):
        self._url, self._stop = url, threading.Event()
        self.codes: list[int] = []
        self._thread = threading.Thread(target=self._ask)

    def _ask(self) -> None:
        with httpx2.Client(timeout=PATIENCE_SECONDS) as client:
            while not self.codes or not self._stop.is_set():
                answer = client.post(f"{self._url}/score", content=BODY)
                self.codes.append(answer.status_code)
                self._stop.wait(0.05)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def unharmed(server: ServedProcess) -> Iterator[None]:
    """Others are answered meanwhile, and the process grows by less than 16 MB."""
    process = psutil.Process(server.pid)
    before = process.memory_info().rss
    with Traffic(server.url) as traffic:
        yield
    assert traffic.codes
    assert set(traffic.codes) == {200}
    assert process.memory_info().rss - before < MAX_GROWTH


def giant(before: bytes, part: bytes, after: bytes = b"") -> Callable[[socket.socket], int]:
    def attack(caller: socket.socket) -> int:
        caller.sendall(before)
        return flood(caller, part, 200_000_000)

    return attack


FLOODS: dict[str, tuple[Callable[[socket.socket], int], int]] = {
    "one giant header": (giant(b"GET /livez HTTP/1.1\r\nX: ", b"a" * 65536), 431),
    "very many headers": (giant(b"GET /livez HTTP/1.1\r\n", b"X-Many: of these\r\n" * 1000), 431),
    "a giant path": (giant(b"GET /", b"a" * 65536), 431),
    "a giant trailer": (giant(STREAM + b"2\r\n{}\r\n0\r\nX: ", b"a" * 65536), 431),
    "very many trailers": (giant(STREAM + b"0\r\n", b"X-Many: of these\r\n" * 1000), 431),
    "a giant extension of a chunk": (giant(STREAM + b"2;x=", b"a" * 65536), 431),
    "very many tiny chunks": (giant(STREAM, b"1\r\n \r\n" * 1000), 400),
    "a body in chunks without an end": (giant(STREAM, b"ffff\r\n" + b" " * 65535 + b"\r\n"), 413),
    "a body of declared 10 GB": (
        giant(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n",
              b" " * 65536), 413,
    ),
    "a body that nobody reads": (
        giant(b"GET /livez HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000000\r\n\r\n",
              b" " * 65536), 200,
    ),
}  # fmt: skip


@pytest.mark.usefixtures("unharmed")
@pytest.mark.parametrize("name", FLOODS)
def test_a_flood_is_cut_off_with_its_reason(server: ServedProcess, name: str) -> None:
    attack, code = FLOODS[name]
    with connect(server) as caller:
        answers: list[bytes] = []
        reading = threading.Thread(target=lambda: answers.append(rest(caller)))
        reading.start()
        attack(caller)
        reading.join()
    # A reset may overtake the reason where the flood was still on its way.
    assert statuses(answers[0]) in ([code], [])


SLOW = {
    "a head that never ends": (b"GET /livez HTTP/1.1\r\nX-Slow: a", b"a", [408]),
    "headers one by one": (b"GET /livez HTTP/1.1\r\n", b"X: y\r\n", [408]),
    "a body that never ends": (
        b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n{", b" ", [408],
    ),
    "chunks that never end": (STREAM, b"1\r\n \r\n", [408]),
    "nothing at all": (b"", b"", []),
    "empty lines after an answer": (b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", b"\r\n", [200, 408]),
}  # fmt: skip


@pytest.mark.usefixtures("unharmed")
def test_a_slow_request_ends_at_the_deadline_and_not_before(server: ServedProcess) -> None:
    """All at once: each ends by itself."""
    callers = {name: connect(server) for name in SLOW}
    for name, caller in callers.items():
        caller.sendall(SLOW[name][0])
    began = time.monotonic()
    threads = [
        threading.Thread(target=drip, args=(caller, SLOW[name][1]))
        for name, caller in callers.items()
    ]
    for thread in threads:
        thread.start()
    found = {name: statuses(rest(caller)) for name, caller in callers.items()}
    assert time.monotonic() - began > RECEIVE_SECONDS - 1
    for thread in threads:
        thread.join()
    for caller in callers.values():
        caller.close()
    assert found == {name: codes for name, (_, _, codes) in SLOW.items()}


def drip(caller: socket.socket, drop: bytes) -> None:
    """A drop now and then, until the server has closed."""
    try:
        while drop:
            caller.sendall(drop)
            time.sleep(0.2)
    except OSError:
        pass


async def large_answers(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": bytes(50_000_000)})


def test_a_caller_that_reads_no_answer_is_left() -> None:
    config = uvicorn.Config(
        large_answers, port=0, http=partial(Receiving, seconds=0.5), ws="none", loop="uvloop",
        lifespan="off", log_config=None,
    )  # fmt: skip
    served = uvicorn.Server(config)
    thread = threading.Thread(target=served.run)
    thread.start()
    while not served.started:
        thread.join(0.01)
    try:
        with socket.create_connection(served.servers[0].sockets[0].getsockname()) as caller:
            caller.settimeout(PATIENCE_SECONDS)
            caller.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            drip(caller, b"x")  # until it is refused
            assert served.server_state.connections == set()
    finally:
        served.should_exit = True
        thread.join()


def test_only_so_many_requests_wait_in_one_connection(server: ServedProcess) -> None:
    with connect(server) as caller:
        flood(caller, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n" * 1000, 1)
        assert len(statuses(rest(caller))) < 1000


def test_a_long_answer_to_a_slow_reader_is_whole(server: ServedProcess) -> None:
    """Slow, but reading: the deadline is for those who do not read at all."""
    with connect(server) as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        head, _, body = rest(caller).partition(b"\r\n\r\n")
    assert b" 200 " in head
    assert json.loads(body)["openapi"]


@pytest.mark.parametrize("coding", ["gzip", "deflate", "zstd", "br", "gzip, gzip", "GZIP"])
@pytest.mark.usefixtures("unharmed")
def test_a_compressed_body_is_refused_and_never_unpacked(
    server: ServedProcess, coding: str
) -> None:
    bomb = gzip.compress(bytes(50_000_000)) if "gzip" in coding.lower() else zlib.compress(BODY)
    answer = httpx2.post(
        f"{server.url}/score", content=bomb, headers={"Content-Encoding": coding}, timeout=60
    )
    assert answer.status_code == 415
    assert answer.json()["type"].endswith("#encoded")


SECOND = b"GET /models HTTP/1.1\r\nHost: x\r\n\r\n"
POST = b"POST /score HTTP/1.1\r\nHost: x\r\n"
UPGRADE = b"Connection: upgrade\r\nUpgrade: websocket\r\n"
AMBIGUOUS = {
    "length and chunks": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\n\r\n" + SECOND,
    "chunks and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 40\r\n\r\n"
    b"0\r\n\r\n" + SECOND,
    "two lengths": POST + b"Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}" + SECOND,
    "two equal lengths": POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}" + SECOND,
    "a list of lengths": POST + b"Content-Length: 2, 2\r\n\r\n{}" + SECOND,
    "a negative length": POST + b"Content-Length: -2\r\n\r\n{}" + SECOND,
    "a length with a plus": POST + b"Content-Length: +2\r\n\r\n{}" + SECOND,
    "a length in hexadecimal": POST + b"Content-Length: 0x2\r\n\r\n{}" + SECOND,
    "a length over 64 bits": POST + b"Content-Length: 18446744073709551618\r\n\r\n{}" + SECOND,
    "a space before the colon": POST + b"Content-Length : 2\r\n\r\n{}" + SECOND,
    "an unknown coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SECOND,
    "chunks not last": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + SECOND,
    "a coding after a tabulator": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"
    + SECOND,
    "an upgrade with a body": POST + UPGRADE + b"Content-Length: 40\r\n\r\n" + SECOND,
    "an upgrade with chunks": POST + UPGRADE + b"Transfer-Encoding: chunked\r\n\r\n" + SECOND,
    "an upgrade without a body": POST + UPGRADE + b"\r\n" + SECOND,
    "a tunnel": b"CONNECT /livez HTTP/1.1\r\nHost: x\r\n\r\n" + SECOND,
    "a tunnel elsewhere": b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: x\r\n\r\n" + SECOND,
    "line feeds alone": b"POST /score HTTP/1.1\nHost: x\nContent-Length: 2\n\n{}" + SECOND,
    "a line feed alone": b"POST /score HTTP/1.1\r\nHost: x\nContent-Length: 2\r\n\r\n{}" + SECOND,
    "carriage returns alone": b"POST /score HTTP/1.1\rHost: x\r\r" + SECOND,
    "a folded header": POST + b"X: a\r\n Content-Length: 2\r\n\r\n" + SECOND,
    "a null in a header": POST + b"X: a\x00b\r\nContent-Length: 2\r\n\r\n{}" + SECOND,
    "a chunk of no size": STREAM + b"\r\n{}\r\n0\r\n\r\n" + SECOND,
    "a chunk of a negative size": STREAM + b"-2\r\n{}\r\n0\r\n\r\n" + SECOND,
    "a chunk of a size in words": STREAM + b"two\r\n{}\r\n0\r\n\r\n" + SECOND,
    "a chunk of a size over 64 bits": STREAM + b"10000000000000002\r\n{}\r\n0\r\n\r\n" + SECOND,
    "a chunk longer than its size": STREAM + b"2\r\n{}{}\r\n0\r\n\r\n" + SECOND,
    "a chunk after a line feed alone": STREAM + b"2\n{}\n0\n\n" + SECOND,
    "no version": b"GET /livez\r\n\r\n" + SECOND,
    "a version of its own": b"GET /livez HTTP/9.9\r\nHost: x\r\n\r\n" + SECOND,
    "a method of its own": b"SM UGGLE /livez HTTP/1.1\r\nHost: x\r\n\r\n" + SECOND,
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
}  # fmt: skip


def models_asked(server: ServedProcess) -> float:
    metrics = httpx2.get(f"{server.url}/metrics").text
    counted = re.findall(r'plaudit_http_requests_total\{.*route="/models"\} (\S+)', metrics)
    return sum(map(float, counted))


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in two parts"])
def test_where_two_readers_could_disagree_no_second_request_appears(
    server: ServedProcess, at_once: bool
) -> None:
    before, found = models_asked(server), {}
    for name, whole in AMBIGUOUS.items():
        cut = len(whole) if at_once else whole.find(b"\r\n\r\n") + 4
        with connect(server) as caller:
            flood(caller, whole[:cut], 1)
            time.sleep(0 if at_once else 0.01)
            flood(caller, whole[cut:] or b"\r\n", 1)
            found[name] = statuses(rest(caller))
    assert found == {name: [400] for name in AMBIGUOUS}
    assert models_asked(server) == before


def test_the_second_request_of_the_table_is_one_where_the_first_is_sound(
    server: ServedProcess,
) -> None:
    before = models_asked(server)
    sound = POST + b"Content-Length: 2\r\n\r\n{}" + SECOND.replace(b"\r\n\r\n", b"\r\nConnection: "
                                                                   b"close\r\n\r\n")  # fmt: skip
    with connect(server) as caller:
        caller.sendall(sound)
        assert statuses(rest(caller)) == [422, 200]
    assert models_asked(server) == before + 1


def test_a_trailer_is_no_header(server: ServedProcess) -> None:
    whole = STREAM + b"%x\r\n%s\r\n0\r\nX-Priority: unknown\r\nX-Request-Id: smuggled\r\n\r\n" % (
        len(BODY), BODY,
    )  # fmt: skip
    with connect(server) as caller:
        caller.sendall(whole + b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        answer = rest(caller)
    assert statuses(answer) == [200, 200]
    assert b"smuggled" not in answer
