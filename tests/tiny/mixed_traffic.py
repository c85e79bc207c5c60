"""A little of everything that a reward service sees, from several callers at once."""

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx2

NAMES = itertools.count()
LONG = "and on, " * 100  # over the tokens that the tiny models take


class Traffic:
    """``single`` and ``ensemble`` are names of what is served; ``keys`` are of two clients."""

    def __init__(self, url: str, single: str, ensemble: str, keys: tuple[str, str]):
        self.url, self._single, self._ensemble, self._keys = url, single, ensemble, keys
        self._over = threading.Event()
        self.statuses: set[int] = set()

    @contextmanager
    def flowing(self) -> Iterator[None]:
        threads = [
            threading.Thread(target=self._repeat, args=(one,))
            for one in (self._steady, self._broad, self._heavy, self._hasty)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _repeat(self, calls: Callable[[httpx2.Client], None]) -> None:
        with httpx2.Client(base_url=self.url, timeout=60) as client:
            while not self._over.is_set():
                calls(client)
                self._over.wait(0.05)

    def _steady(self, client: httpx2.Client) -> None:
        """A trainer: new work, the same again, texts cut to fit, and a filled-in reward."""
        body = {"model": self._single, "items": fresh(16)}
        self._post(client, "/score", body, 0)
        self._post(client, "/score", body, 0, **{"x-plaudit-retry-count": "1"})
        cut = {"items": fresh(4), "max_tokens": 20, "truncation": "left"}
        self._post(client, "/score", {"model": self._single, **cut}, 0)
        self._post(client, "/slime", {"prompt": f"{LONG}{next(NAMES)}", "response": "No."}, 0)

    def _broad(self, client: httpx2.Client) -> None:
        """An evaluation: the ensemble, an item too long for one member, and a mistake."""
        items = [*fresh(8), {"prompt": "How?", "response": f"{next(NAMES)} {LONG[:200]}"}]
        named = {"ensemble": self._ensemble, "items": items}
        self._post(client, "/ensemble_score", named, 1, **{"x-priority": "eval"})
        self._post(client, "/score", {"model": self._single, "items": 3}, 1)

    def _heavy(self, client: httpx2.Client) -> None:
        """More tokens than the house has room for: alone in it, it fills it."""
        self._post(client, "/score", {"model": self._single, "items": fresh(400)}, 1)

    def _hasty(self, client: httpx2.Client) -> None:
        """Deadlines that are hard to keep: too late at once, or no room while others compute."""
        for milliseconds in (1, 20, 60, 200):
            body = {"model": self._single, "items": fresh(1)}
            limit = {"x-request-deadline-ms": str(milliseconds)}
            self._post(client, "/score", body, 1, **limit)

    def _post(
        self, client: httpx2.Client, path: str, body: dict[str, Any], key: int, **headers: str
    ) -> None:
        carried = {"authorization": f"Bearer {self._keys[key]}", **headers}
        self.statuses.add(client.post(path, json=body, headers=carried).status_code)


def fresh(count: int) -> list[dict[str, str]]:
    """Items that no cache knows."""
    return [
        {"prompt": f"Question {next(NAMES)}?", "response": "Yes, indeed."} for _ in range(count)
    ]
