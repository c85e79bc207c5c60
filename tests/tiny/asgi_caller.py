"""Whatever path, method and Host, put to an application without a client that would mend them."""

from typing import Any
from urllib.parse import unquote

from fastapi import FastAPI
from starlette.routing import Route

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "BREW")
HOSTS = (
    "test", "127.0.0.1", "[::1]", "evil.example/livez", "x/livez?", "x#/livez", "x\\livez",
    "@/livez", "x:99999", "", "a b", "livez", "%2flivez", "x,y",
)  # fmt: skip
# Of a path that needs a key, written so that somebody may take it for one that does not.
DISGUISES = (
    "{0}", "{0}/", "/{0}", "//{0}", "/livez/..{0}", "/livez;{0}", "/livez/%2e%2e{0}", "{0}?/livez",
    "{0}#/livez", "/.{0}", "{0}%00", "{0}%20", "{0};/livez", "{0}/%2e", "/%2e{0}", "{0}%2f",
    "/x/..{0}", "{0}/../livez", "/livez%2f..{0}", "/k/wrong{0}", "/k/{0}", "http://x{0}",
    "{0}%0A", "{0}%0a", "{0}%0D%0A", "{0}%0D", "{0}%0A%0A", "%0A{0}", "{0}%09", "{0}%0B", "{0}%0C",
    "{0}%1F", "{0}%7F", "{0}%C2%85", "{0}%E2%80%A8", "{0}%C2%A0", "{0}%FF", "{0}/%0A", "{0}%0A/",
    "{0}%250A", "{0}%23", "{0}%3F", "{0}%5C", "/k/wrong{0}%0A", "/k/x%0A{0}", "{0}%0A?/livez",
)  # fmt: skip


class Caller:
    """Puts whatever path, method and Host to the application, as a server that has parsed it."""

    def __init__(self, app: FastAPI):
        self._app = app

    async def __call__(
        self, method: str, path: str, host: str = "test", **headers: str
    ) -> tuple[int, bytes]:
        status, _, body = await self.whole(method, path, host, **headers)
        return status, body

    async def whole(
        self, method: str, path: str, host: str = "test", **headers: str
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body."""
        written, _, query = path.partition("?")
        raw = written.encode()
        scope = {
            "type": "http", "http_version": "1.1", "method": method, "scheme": "http",
            "path": unquote(written),
            "raw_path": raw, "query_string": query.encode(), "root_path": "",
            "headers": [
                (b"host", host.encode()), (b"content-length", b"2"),
                *((name.encode(), value.encode()) for name, value in headers.items()),
            ],
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 8000),
            "asgi": {"version": "3.0"}, "state": {},
        }  # fmt: skip
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": b"{}", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        body = b"".join(message.get("body", b"") for message in sent)
        answered = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], answered, body


def declared(app: FastAPI) -> dict[str, set[str]]:
    """Every route of the application, with names filled in, and its methods."""
    found: dict[str, set[str]] = {}
    for route in app.routes:
        assert isinstance(route, Route)
        path = route.path.replace("{model}", "m0").replace("{version}", "1")
        found.setdefault(path, set()).update(route.methods or ())
    return found
