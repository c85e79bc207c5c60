"""The page at ``/docs``: Swagger UI over ``/openapi.json``, from files of this package."""

from fastapi import FastAPI

from service.ui import assets

VENDORED = "vendor/swagger-ui"


def add_api_docs(app: FastAPI) -> None:
    """The page and its files. FastAPI's own, which loads from a CDN, must be off."""
    own = {
        "/docs": "files/docs.html",
        "/ui/docs.css": "files/docs.css",
        "/ui/docs.js": "files/docs.js",
        "/ui/swagger-ui.css": f"{VENDORED}/swagger-ui.css",
        "/ui/swagger-ui-bundle.js": f"{VENDORED}/swagger-ui-bundle.js",
    }
    assets.add(app, assets.SHARED | own)
