"""Items asked before: a repeat needs neither template nor tokenizer.

An item is known by a digest of what was sent, under the model's revision and the truncation. Its
text is not kept.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import msgspec

from plaudit.wire import Item, Truncation
from service.items import Seen


class Repeats:
    """What the items asked last became; those asked longest ago leave beyond ``entries``."""

    def __init__(self, entries: int):
        self._max_entries = entries
        self._seen: OrderedDict[bytes, Seen] = OrderedDict()

    def get(self, digests: Sequence[bytes]) -> list[Seen | None]:
        found = [self._seen.get(digest) for digest in digests]
        for digest, seen in zip(digests, found, strict=True):
            if seen is not None:
                self._seen.move_to_end(digest)
        return found

    def put(self, seen: Mapping[bytes, Seen]) -> None:
        self._seen.update(seen)
        while len(self._seen) > self._max_entries:
            self._seen.popitem(last=False)


def digests(revision: str, items: Sequence[Item], truncation: Truncation) -> list[bytes]:
    """One for each item, of all that decides its token ids."""
    rest = hashlib.blake2b(f"{revision} {truncation} ".encode(), digest_size=32)
    encoder = msgspec.msgpack.Encoder()
    found = []
    for item in items:
        whole = rest.copy()
        whole.update(encoder.encode(item))
        found.append(whole.digest())
    return found
