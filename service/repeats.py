"""Items asked before: a repeat needs neither template nor tokenizer.

An item is known by a digest of what was sent, under the model's revision and how it is cut. Its
text is not kept.
"""

import hashlib
from collections.abc import Mapping, Sequence

import msgspec

from plaudit.wire import Item
from service.items import Cut, Seen
from service.recent import Recent


class Repeats:
    """What the ``entries`` items asked last became."""

    def __init__(self, entries: int):
        self._seen: Recent[Seen] = Recent(entries)

    def get(self, digests: Sequence[bytes]) -> list[Seen | None]:
        known = self._seen.get(digests)
        return [known.get(digest) for digest in digests]

    def put(self, seen: Mapping[bytes, Seen]) -> None:
        self._seen.put(seen)


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


def under(revision: str, cut: Cut, asked: Sequence[bytes]) -> list[bytes]:
    """Digests of items for one model that cuts them so."""
    way = f"{revision} {cut.truncation} {cut.max_tokens}"
    place = hashlib.blake2b(way.encode(), digest_size=16).digest()
    return [place + digest for digest in asked]
