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


def digests(items: Sequence[Item]) -> list[bytes]:
    """One for each item. A prompt that items share is hashed once, so that time is bounded by the
    request's bytes."""
    encoder = msgspec.json.Encoder()  # unlike MessagePack it knows integers of any size
    found = []
    prompt, stem = None, hashlib.blake2b(encoder.encode(None), digest_size=32)
    for item in items:
        if item.prompt is not prompt:
            prompt = item.prompt
            stem = hashlib.blake2b(encoder.encode(prompt), digest_size=32)
        whole = stem.copy()
        whole.update(encoder.encode((item.response, item.messages, item.text, item.token_ids)))
        found.append(whole.digest())
    return found


def under(revision: str, truncation: Truncation, asked: Sequence[bytes]) -> list[bytes]:
    """Digests of items for one model and truncation."""
    place = hashlib.blake2b(f"{revision} {truncation}".encode(), digest_size=16).digest()
    return [place + digest for digest in asked]
