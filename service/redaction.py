"""Addresses and texts as they may be shown: without passwords and keys."""

from collections.abc import Iterable
from urllib.parse import urlsplit, urlunsplit

HIDDEN = "***"


def without_password(url: str) -> str:
    """A URL with its host and path; who logs in, with which password, and the query are hidden."""
    parts = urlsplit(url)
    _, at, place = parts.netloc.rpartition("@")
    query = HIDDEN if parts.query else ""
    return urlunsplit((parts.scheme, f"{HIDDEN}@{place}" if at else place, parts.path, query, ""))


def secrets_of(url: str) -> list[str]:
    """The parts of a URL that are not shown: its password and its query."""
    parts = urlsplit(url)
    return [part for part in (parts.password, parts.query) if part]


def redacted(text: str, secrets: Iterable[str]) -> str:
    """The text without any of the secrets; the longest first, as one may be part of another."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if secret:
            text = text.replace(secret, HIDDEN)
    return text
