"""How a refusal may be worded: for people, in one line, and with nothing that harms a terminal."""

from service.problems import KINDS, Failure


def sayable(text: str) -> None:
    """Printable, so neither a control character nor half a character; JSON and UTF-8 take it."""
    assert text
    assert text.isprintable(), ascii(text)
    assert len(text) < 2000


def refused(failure: Failure, *kinds: str, never: str = "\n") -> None:
    """One of these kinds, which are the caller's fault, in bounded words and without ``never``."""
    assert failure.kind in kinds, failure.kind
    assert 400 <= KINDS[failure.kind].status < 500
    sayable(failure.detail)
    assert never not in failure.detail
