"""Whose key a key is."""

import hmac
from collections.abc import Sequence

from service.key_entry import NAMED, Entry, Grant, KeysError, digest_of
from service.quotas import Quota

ANONYMOUS = "anonymous"


class Keys:
    """The accepted keys. Several may have one name, as while one takes the place of another."""

    def __init__(self, entries: Sequence[Entry] = ()):
        """KeysError where a key stands twice, or a client has two quotas."""
        self.entries = checked(entries)

    def replace(self, new: "Keys") -> None:
        """Those of ``new`` count from now on, and no others."""
        self.entries = new.entries

    @property
    def quotas(self) -> dict[str, Quota]:
        """By the client's name; who is not in it has none."""
        return {one.client: one.quota for one in self.entries if one.quota is not None}

    @property
    def grants(self) -> frozenset[Grant]:
        """All that any key opens."""
        return frozenset(grant for one in self.entries for grant in one.grants)

    def find(self, key: str | None) -> Entry | None:
        """The entry whose key it is, even if its time is over. ``NAME:KEY`` is as good as ``KEY``:
        a caller may well copy the whole."""
        whole, name, part = key or "", None, ""
        named = NAMED.fullmatch(whole)
        if named is not None:
            name, part = named["name"], named["key"]
        whole_digest, own_digest = digest_of(whole), digest_of(part)
        # All keys are compared, so that the time taken tells nothing of which one is near.
        matching = [
            one
            for one in self.entries
            if hmac.compare_digest(whole_digest, one.digest)
            | (hmac.compare_digest(own_digest, one.digest) & (one.client == name))
        ]
        return matching[0] if key and matching else None


def checked(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    places: dict[bytes, str] = {}
    firsts: dict[str, Entry] = {}
    for one in entries:
        if one.digest in places:
            raise KeysError(
                f"{one.place}: the same key stands in {places[one.digest]}; keep one of them, with "
                "the scopes of both"
            )
        places[one.digest] = one.place
        first = firsts.setdefault(one.client, one)
        if first.quota != one.quota:
            raise KeysError(
                f"{one.place}: {one.client} has another quota in {first.place}; a quota is the "
                "client's, so write the same one for each of its keys"
            )
    return tuple(entries)
