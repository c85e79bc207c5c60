"""Addresses and texts as they may be shown: without passwords and keys."""

import re
from collections.abc import Iterable

HIDDEN = "***"
# Not by urlsplit, which refuses some texts: what is no URL may be shown too, and hold a password.
LOGIN = re.compile(r"//([^/?#]*)@")


def without_password(url: str) -> str:
    """A URL with its host and path; who logs in, with which password, and the query are hidden."""
    address, query = split(url)
    shown = LOGIN.sub(f"//{HIDDEN}@", address)
    return f"{shown}?{HIDDEN}" if query else shown


def secrets_of(url: str) -> list[str]:
    """The parts of a URL that are not shown: its password and its query."""
    address, query = split(url)
    passwords = [login.partition(":")[2] for login in LOGIN.findall(address)]
    return [part for part in (*passwords, query) if part]


def split(url: str) -> tuple[str, str]:
    """What is before the query, and the query."""
    address, _, query = url.partition("#")[0].partition("?")
    return address, query


def redacted(text: str, secrets: Iterable[str]) -> str:
    """The text without any of the secrets; the longest first, as one may be part of another."""
    for secret in sorted(set(secrets), key=len, reverse=True):
        if secret:
            text = text.replace(secret, HIDDEN)
    return text
