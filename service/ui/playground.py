"""The page at ``/``: two responses to a prompt, scored by what is loaded.

It asks ``GET /models``, ``POST /score`` and ``POST /ensemble_score`` as any caller does. It may be
left out (``--no-playground``).
"""

from fastapi import FastAPI

from service.ui import assets

SCRIPTS = ("playground", "ask", "element", "numbers", "snippets", "verdict")


def add_playground(app: FastAPI) -> None:
    """The page and its files."""
    scripts = {f"/ui/{name}.js": f"files/{name}.js" for name in SCRIPTS}
    own = {"/": "files/playground.html", "/ui/playground.css": "files/playground.css"}
    assets.add(app, assets.SHARED | own | scripts)
