"""Files of the pages, held in memory: no caller's path reaches the disk, and no range is cut.

A page is HTML, style and script of its own origin. The policy sent with it lets it load and ask
nothing else, run no inline script, and be framed by nobody.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI, Request, Response

HERE = Path(__file__).parent
MEDIA = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self' data:",
        "base-uri 'none'",
        "frame-ancestors 'none'",
        "form-action 'none'",
    ]
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
    "cache-control": "no-cache",  # kept by the browser, and asked for anew by its ETag
}
# What every page of ours has.
SHARED = {
    "/ui/frame.css": "files/frame.css",
    "/ui/mark.svg": "files/mark.svg",
    "/ui/page.css": "files/page.css",
    "/ui/theme.js": "files/theme.js",
}


@dataclass(frozen=True)
class Asset:
    body: bytes
    media: str
    etag: str

    async def answer(self, request: Request) -> Response:
        """The bytes, or 304 where the browser has them."""
        headers = HEADERS | {"etag": self.etag}
        if self.etag in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self.body, headers=headers, media_type=self.media)


def of(body: bytes, suffix: str) -> Asset:
    return Asset(body, MEDIA[suffix], f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def add(app: FastAPI, files: Mapping[str, str]) -> None:
    """Serve ``files``: a path of the URL to a file below this package, read now."""
    for path, name in files.items():
        asset = of((HERE / name).read_bytes(), Path(name).suffix)
        app.add_route(path, asset.answer, ["GET"], include_in_schema=False)
