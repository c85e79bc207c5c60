"""Matplotlib figures as SVG text."""

import io
from collections.abc import Callable
from typing import Any

from matplotlib import rc_context
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "plaudit", "font.size": 8}


def svg(draw: Callable[[Figure], None], width: float, height: float = 2.6) -> str:
    """What ``draw`` puts on a figure of so many inches; the same text for the same figure."""
    text = io.StringIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure)
        figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()
