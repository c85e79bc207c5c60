"""One accepted API key, as a line of a keys file has it.

Only SHA-256 digests are held. Keys are 256 random bits and no passwords, so there is nothing to
guess that a slow hash (bcrypt, argon2) would make dear; it would cost every request instead.
"""

import hashlib
import hmac
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, cast, get_args

from service.quotas import Quota

# score: what scores, and /models. metrics: /metrics and /ops. admin: /admin/….
Grant = Literal["score", "metrics", "admin"]
GRANTS: tuple[Grant, ...] = get_args(Grant)
# Of a key that may have a name before it: trainer:b3ac…
NAMED = re.compile(r"(?P<name>[a-z][a-z0-9_-]{0,31}):(?P<key>.+)", re.DOTALL)
NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")
HASHED = re.compile(r"sha256:(?P<digest>[0-9a-f]{64})")
DATE = re.compile(r"\d{4}-\d\d-\d\d(T\d\d:\d\d:\d\dZ)?")
FIELDS = ("scope", "tokens-per-second", "burst-tokens", "expires")


class KeysError(ValueError):
    """An entry that cannot be read. The text names its place and what mends it, never the key."""


@dataclass(frozen=True)
class Entry:
    """One accepted key. ``hashed``: it was written as its digest. ``place``: where it was."""

    client: str
    digest: bytes
    grants: frozenset[Grant]
    quota: Quota | None
    expires: datetime | None
    hashed: bool
    place: str

    def is_over(self) -> bool:
        """Whether its time has passed, by the clock of the machine."""
        return self.expires is not None and datetime.now(UTC) >= self.expires


def digest_of(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


# As of a variable of the shell that is not set: it would let in whoever sends an empty key.
OF_NOTHING = digest_of("")


def read(
    lines: Iterable[str], where: str, grants: Iterable[Grant], unnamed: str, before: int = 0
) -> list[Entry]:
    """Entries of lines: ``[NAME:]KEY`` or ``[NAME:]sha256:DIGEST``, then fields, ``scope=score``.

    Empty lines and those that begin with # are left out. ``grants`` are of entries that name no
    scope; ``where`` begins their place, ``keys line``. One without a name is ``unnamed-N``, by its
    place among all, of which ``before`` came before."""
    found: list[Entry] = []
    for number, line in enumerate(lines, start=1):
        words = line.split()
        if words and not words[0].startswith("#"):
            name = f"{unnamed}-{before + len(found) + 1}"
            found.append(entry_of(words, f"{where} {number}", frozenset(grants), name))
    return found


def entry_of(words: Sequence[str], place: str, grants: frozenset[Grant], unnamed: str) -> Entry:
    fields = fields_of(words[1:], place)
    named = None if words[0].startswith("sha256:") else NAMED.fullmatch(words[0])
    name, key = (unnamed, words[0]) if named is None else (named["name"], named["key"])
    hashed = HASHED.fullmatch(key)
    if hashed is None and key.startswith("sha256:"):
        raise KeysError(f"{place}: sha256: is followed by 64 digits of 0-9a-f; copy all of them")
    digest = bytes.fromhex(hashed["digest"]) if hashed else digest_of(key)
    if hmac.compare_digest(digest, OF_NOTHING):
        raise KeysError(f"{place}: this is the digest of no key at all; plaudit keys new makes one")
    return Entry(
        name,
        digest,
        grants_of(fields.get("scope", []), place) or grants,
        quota_of(fields, place),
        expiry_of(fields["expires"][0], place) if "expires" in fields else None,
        hashed is not None,
        place,
    )


def fields_of(words: Sequence[str], place: str) -> dict[str, list[str]]:
    """Values by name. No word is quoted in an error: it may be a part of a key."""
    found: dict[str, list[str]] = {}
    for number, word in enumerate(words, start=2):
        name, equals, value = word.partition("=")
        if name not in FIELDS or not equals:
            raise KeysError(
                f"{place}: word {number} is no field; write [NAME:]KEY and then any of "
                f"{', '.join(f'{one}=…' for one in FIELDS)}, with spaces between them"
            )
        found.setdefault(name, []).append(value)
    for name, values in found.items():
        if name != "scope" and len(values) > 1:
            raise KeysError(f"{place}: {name}= stands there {len(values)} times; leave one")
    return found


def grants_of(values: Sequence[str], place: str) -> frozenset[Grant]:
    for value in values:
        if value not in GRANTS:
            raise KeysError(
                f"{place}: scope= is one of {', '.join(GRANTS)}; for several write it several times"
            )
    return frozenset(cast(Sequence[Grant], values))


def quota_of(fields: dict[str, list[str]], place: str) -> Quota | None:
    rate, burst = (fields.get(name, [""])[0] for name in ("tokens-per-second", "burst-tokens"))
    if "tokens-per-second" not in fields and "burst-tokens" not in fields:
        return None
    if not re.fullmatch(r"\d{1,15}(\.\d+)?", rate) or not float(rate) > 0:
        raise KeysError(f"{place}: a quota needs tokens-per-second=, a positive number")
    if not re.fullmatch(r"\d{1,15}", burst) or int(burst) == 0:
        raise KeysError(
            f"{place}: a quota needs burst-tokens=, a positive whole number, such as "
            f"{math.ceil(10 * float(rate))} for ten seconds at once"
        )
    return Quota(float(rate), int(burst))


def expiry_of(value: str, place: str) -> datetime | None:
    """The moment, in UTC; a date is its first."""
    try:
        if DATE.fullmatch(value):
            return datetime.fromisoformat(value).replace(tzinfo=UTC)
    except ValueError:  # such as 2027-02-30
        pass
    raise KeysError(f"{place}: expires= is 2027-06-30 or 2027-06-30T12:00:00Z, which is UTC")
