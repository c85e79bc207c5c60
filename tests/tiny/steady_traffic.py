"""Callers that ask a real server for scores without a pause, and check every number."""

import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from random import Random
from urllib.parse import urlsplit

ITEMS = 4
# Generous: an answer that takes longer is a failure.
ANSWER_SECONDS = 60.0


def pool(rng: Random, count: int) -> list[dict[str, object]]:
    """Items of several forms, no two alike."""
    forms = (
        lambda i: {"prompt": f"Question {i}", "response": f"Answer {rng.randrange(10**6)}"},
        lambda i: {"text": f"Text {i} " + "and more " * rng.randrange(8)},
        lambda i: {
            "token_ids": [5 + i % 90, 6 + i // 90, *(rng.randrange(3, 200) for _ in "abcd")]
        },
    )
    return [forms[i % len(forms)](i) for i in range(count)]


@dataclass
class Counted:
    """Of all requests so far; ``seconds`` of each answer, by when it came."""

    requests: int = 0
    failed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class SteadyTraffic:
    """``callers`` threads, each with one connection; an answer is right if it is ``truth`` to the
    last bit. Without retries: a failure of the server is one of ours."""

    def __init__(self, url: str, items: Sequence[dict[str, object]], rng: Random, callers: int = 3):
        self._at, self._items = urlsplit(url).netloc, items
        self._rngs = [Random(rng.random()) for _ in range(callers)]
        self.truth: Mapping[int, float] = {}
        self.counted = Counted()
        self._lock, self._end = threading.Lock(), threading.Event()

    def learn(self, cached: bool = False) -> None:
        """Ask for every item once and take the scores as true, after a look at ``cached``."""
        connection = HTTPConnection(self._at, timeout=ANSWER_SECONDS)
        places = range(len(self._items))
        answer = self._ask(connection, places)
        assert not isinstance(answer, str), answer
        assert {item["cached"] for item in answer} == {cached}
        self.truth = {i: item["score"] for i, item in zip(places, answer, strict=True)}
        connection.close()

    @contextmanager
    def flowing(self) -> Iterator[Counted]:
        """Traffic while the block runs; what the block counts is its own."""
        self.counted, self._end = Counted(), threading.Event()
        threads = [threading.Thread(target=self._call, args=(rng,)) for rng in self._rngs]
        for thread in threads:
            thread.start()
        try:
            yield self.counted
        finally:
            self._end.set()
            for thread in threads:
                thread.join()

    def _call(self, rng: Random) -> None:
        connection = HTTPConnection(self._at, timeout=ANSWER_SECONDS)
        while not self._end.is_set():
            places = rng.sample(range(len(self._items)), ITEMS)
            began = time.perf_counter()
            answer = self._ask(connection, places)
            self._count(places, answer, time.perf_counter() - began)
        connection.close()

    def _ask(
        self, connection: HTTPConnection, places: Sequence[int]
    ) -> list[dict[str, object]] | str:
        body = json.dumps({"items": [self._items[i] for i in places]})
        try:
            connection.request("POST", "/score", body)
            response = connection.getresponse()
            said = json.loads(response.read())
        except (OSError, HTTPException, ValueError) as error:
            connection.close()
            return repr(error)
        if response.status != 200:
            return f"{response.status} {said}"
        return said["items"]

    def _count(
        self, places: Sequence[int], answer: list[dict[str, object]] | str, seconds: float
    ) -> None:
        with self._lock:
            counted = self.counted
            counted.requests += 1
            counted.seconds.append(seconds)
            if isinstance(answer, str):
                counted.failed.append(answer)
                return
            for place, item in zip(places, answer, strict=True):
                if "error" in item:
                    counted.failed.append(str(item))
                elif item["score"] != self.truth[place]:
                    counted.wrong.append(f"{item['score']} for {self.truth[place]}")
