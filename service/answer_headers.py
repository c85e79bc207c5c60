"""What every answer tells a browser: to run, frame, guess at, keep and pass on nothing of it.

No header ever lets another origin read an answer (CORS): browsers refuse that by themselves.
"""

from collections.abc import Iterable

# The pages have their own policy, which lets them load their own files.
DEFAULTS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
)


def missing(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The defaults that an answer does not set itself."""
    there = {name for name, _ in headers}
    return [default for default in DEFAULTS if default[0] not in there]
