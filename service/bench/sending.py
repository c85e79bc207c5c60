"""One request over HTTP, without retries: what a client would try again is what is counted here."""

import asyncio
import resource
from collections.abc import Callable

import httpx2
import msgspec

from plaudit.client.retry import DEADLINE_HEADER
from plaudit.wire import ModelInfo, ModelList, Problem, Usage
from service.bench.open_loop import OK, Answer
from service.bench.texts import BenchError
from service.redaction import without_password

# Descriptors that the process needs for itself.
SPARE_FILES = 64
MOST_CONNECTIONS = 4096


class Told(msgspec.Struct, frozen=True):
    """The part of an answer that is counted."""

    rewards: list[float | None]
    usage: Usage


class Sender:
    """Requests to one server, each with a deadline."""

    def __init__(self, url: str, api_key: str | None, timeout_seconds: float):
        if httpx2.URL(url).scheme not in ("http", "https"):
            raise BenchError(f"{without_password(url)}: a server is http://HOST:PORT")
        self.url, self._timeout = without_password(url), timeout_seconds
        headers = {
            "Content-Type": "application/json",
            DEADLINE_HEADER: str(int(timeout_seconds * 1000)),
        }
        if api_key:
            headers["Authorization"] = f"Bearer {api_key}"
        self.connections = most_connections()
        limits = httpx2.Limits(
            max_connections=self.connections, max_keepalive_connections=None, keepalive_expiry=4.0
        )
        self._http = httpx2.AsyncClient(
            base_url=url, headers=headers, limits=limits, timeout=timeout_seconds
        )

    async def close(self) -> None:
        await self._http.aclose()

    async def post(self, path: str, body: bytes) -> Answer:
        try:
            async with asyncio.timeout(self._timeout):
                response = await self._http.post(path, content=body)
        except (TimeoutError, httpx2.TimeoutException):
            return Answer("client-timeout", 0)
        except httpx2.RequestError as error:
            return Answer(f"connection: {type(error).__name__}", 0)
        if response.status_code != 200:
            return refusal(response)
        try:
            told = msgspec.json.decode(response.content, type=Told)
        except msgspec.DecodeError:
            return Answer("unexpected-answer")
        return Answer(
            OK,
            items=len(told.rewards),
            failed=told.rewards.count(None),
            tokens=told.usage.tokens,
            cached=told.usage.cached,
        )

    async def models(self) -> list[ModelInfo]:
        """What is served. BenchError where nobody answers as Plaudit does."""
        try:
            response = await self._http.get("/models")
        except httpx2.RequestError as error:
            raise BenchError(
                f"{self.url} cannot be reached ({type(error).__name__}): "
                "start a server with plaudit serve, or correct the URL"
            ) from None
        if response.status_code == 401:
            raise BenchError(f"{self.url} needs a key: export PLAUDIT_CLIENT_API_KEY=…")
        if response.status_code == 404 and await self._has_probes():
            raise BenchError(
                f"{self.url} answers probes and no /models: is it the admin port? "
                "Give the port of plaudit serve --port, which is 8000 unless it was said"
            )
        try:
            return msgspec.json.decode(response.content, type=ModelList).models
        except msgspec.DecodeError:
            said = refusal(response).said or "that is not as Plaudit does: correct the URL"
            raise BenchError(f"{self.url}/models answers {response.status_code}: {said}") from None

    async def _has_probes(self) -> bool:
        return (await self._http.get("/livez")).status_code == 200


def refusal(response: httpx2.Response) -> Answer:
    """Its outcome is the last part of the problem's type, as ``overloaded``; else the status."""
    try:
        problem = msgspec.json.decode(response.content, type=Problem)
    except msgspec.DecodeError:
        return Answer(f"http-{response.status_code}", response.status_code)
    said = f"{problem.detail.rstrip('.')}; {problem.remedy}"
    return Answer(problem.type.rpartition("#")[2], response.status_code, said=said)


def most_connections(limit: Callable[[int], tuple[int, int]] = resource.getrlimit) -> int:
    soft, _ = limit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(1, min(MOST_CONNECTIONS, soft - SPARE_FILES))
