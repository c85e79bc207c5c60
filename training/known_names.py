"""What may have been meant by a name that is not known."""

from collections.abc import Collection
from difflib import get_close_matches


def hint(name: str, known: Collection[str]) -> str:
    return nearest(name, known) or f"known: {', '.join(sorted(known))}"


def nearest(name: str, known: Collection[str]) -> str:
    """A question; empty where nothing is near."""
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else ""
