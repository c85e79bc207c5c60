"""The bodies of Plaudit's own routes: decoded, laid flat into items, known by digests."""

import msgspec

from plaudit.wire import EnsembleRequest, Item, ScoreRequest
from service.bodies import decode
from service.items import items_of
from service.problems import Failure
from service.repeats import digests
from service.swap_request import SwapRequest
from tests.fuzz.targets.choosing import choosing, chosen
from tests.fuzz.targets.saying import refused

KINDS = (ScoreRequest, EnsembleRequest, SwapRequest)
DECODERS = {kind: msgspec.json.Decoder(kind) for kind in KINDS}
MOST = 16
# In the seeds as text, as a key and as a value, and so wherever mutations put it.
SECRET = "ZEBRA"
TURN = '{"role": "user", "content": "é"}'
SEEDS = (
    '{"items": [{"prompt": "a", "response": "b"}, {"text": "x", "response": "x"}]}',
    f'{{"groups": [{{"prompt": [{TURN}], "responses": ["b", "c"]}}], "model": "m"}}',
    f'{{"items": [{{"messages": [{TURN}]}}], "truncation": "left", "max_tokens": 9}}',
    '{"items": [{"token_ids": [1, 18446744073709551616]}], "weights": {"a": 1e6}}',
    '{"items": [], "revision": "sha256:00", "aggregate": "wco", "coefficient": 0.5}',
    '{"model": "m", "checkpoint": "c"}',
    '{"swaps": [{"model": "m", "checkpoint": "c"}, {"model": "n", "checkpoint": "../d"}]}',
    '{"model": "m", "checkpoint": "c", "shadow": {"share": 0.5, "items": 200, "seconds": 9},'
    ' "require": {"items": 150, "failed": 0.1, "kendall": -1, "mean_shift": 0, "std_ratio": 2}}',
    '{"items": [], "x`ZEBRA crossing`y": 1}',
    '{"items": [], "truncation": "it\'s a ZEBRA \\" here"}',
    '{"items": [{"x - at `$.ZEBRA`": 1}], "x - at `$": 1}',
)


def seeds() -> list[bytes]:
    return [choosing(kind, KINDS, text.encode()) for kind in KINDS for text in SEEDS]


def one(data: bytes) -> None:
    """A request that encodes back to itself, or "malformed" and none of the caller's words; of its
    items at most ``MOST``."""
    kind, body = chosen(data, KINDS)
    try:
        found = decode(DECODERS[kind], body)
    except Failure as failure:
        refused(failure, "malformed", never=SECRET)
        return
    assert decode(DECODERS[kind], msgspec.json.encode(found)) == found
    if not isinstance(found, SwapRequest):
        flat(found)


def flat(found: ScoreRequest | EnsembleRequest) -> None:
    try:
        items = items_of(found.items, found.groups, MOST)
    except Failure as failure:
        refused(failure, "malformed", "too-large")
        return
    assert len(items) <= MOST
    assert all(isinstance(item, Item) for item in items)
    known = digests(items)
    for i, item in enumerate(items):
        assert known.index(known[i]) == items.index(item)
