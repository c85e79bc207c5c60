"""The page at ``/docs``: Swagger UI over ``/openapi.json``, from files of this package."""

from fastapi import FastAPI

from service.ui import assets

VENDORED = "vendor/swagger-ui"


PLAYGROUND = b'<a href="/">Playground</a>'


def add_api_docs(app: FastAPI, playground: bool) -> None:
    """The page and its files, with a link to the ``playground`` where it is served. FastAPI's own,
    which loads from a CDN, must be off."""
    page = (assets.HERE / "files/docs.html").read_bytes()
    shown = page if playground else page.replace(PLAYGROUND, b"")
    app.add_route("/docs", assets.of(shown, ".html").answer, ["GET"], include_in_schema=False)
    own = {
        "/ui/docs.css": "files/docs.css",
        "/ui/docs.js": "files/docs.js",
        "/ui/swagger-ui.css": f"{VENDORED}/swagger-ui.css",
        "/ui/swagger-ui-bundle.js": f"{VENDORED}/swagger-ui-bundle.js",
    }
    assets.add(app, assets.SHARED | own)
