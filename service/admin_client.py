"""Asks the admin port of a server for what its keys may do."""

import time
from typing import Self, TypeVar

import httpx2
import msgspec

from plaudit.wire import Problem
from service.origins import ListedModels
from service.swap_request import SwapRequest
from service.swap_state import UNDER_WAY, SwapList, SwapView

T = TypeVar("T")
CONNECT_SECONDS = 10.0


class NoPlaudit(ValueError):
    """What answered is another server."""


class AdminClient:
    """Raises httpx2's errors where nothing answers, NoPlaudit where something else does."""

    def __init__(self, url: str, key: str):
        # However long the server takes to load a model.
        patience = httpx2.Timeout(None, connect=CONNECT_SECONDS)
        headers = {"Authorization": f"Bearer {key}"}
        self._http = httpx2.Client(base_url=url.rstrip("/"), headers=headers, timeout=patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def models(self) -> ListedModels | Problem:
        return self._ask("GET", "/admin/models", ListedModels)

    def swap(self, asked: SwapRequest) -> SwapView | Problem:
        """Once it has switched, or has begun to compare."""
        return self._ask("POST", "/admin/swap", SwapView, msgspec.json.encode(asked))

    def cancel(self) -> SwapView | Problem:
        return self._ask("DELETE", "/admin/swap", SwapView)

    def swaps(self) -> SwapList | Problem:
        return self._ask("GET", "/admin/swaps", SwapList)

    def ended(self, number: int, look_seconds: float) -> SwapView | Problem:
        """The swap of that number once it has ended."""
        while True:
            listed = self.swaps()
            if isinstance(listed, Problem):
                return listed
            found = next((one for one in listed.swaps if one.id == number), None)
            if found is None:
                raise NoPlaudit(f"swap {number} is forgotten: the server has started anew")
            if found.state not in UNDER_WAY:
                return found
            time.sleep(look_seconds)

    def _ask(self, method: str, path: str, kind: type[T], body: bytes = b"") -> T | Problem:
        answer = self._http.request(method, path, content=body)
        try:
            if answer.is_success:
                return msgspec.json.decode(answer.content, type=kind)
            return msgspec.json.decode(answer.content, type=Problem)
        except msgspec.DecodeError:
            raise NoPlaudit(
                f"HTTP {answer.status_code} from what is no Plaudit: correct the URL"
            ) from None
