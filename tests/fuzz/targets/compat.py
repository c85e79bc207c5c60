"""The bodies of other servers' routes: decoded, and put into our words."""

from collections.abc import Callable
from typing import Any

import msgspec

from plaudit.conversation import Around
from plaudit.wire import Item
from service.bodies import decode
from service.compat import cohere, inputs, only, openrlhf, sglang, slime, tei, vllm_body
from service.compat.special_tokens import with_one_bos
from service.items import refuse_more
from service.problems import Failure
from service.repeats import digests
from tests.fuzz.targets import golden
from tests.fuzz.targets.choosing import choosing, chosen
from tests.fuzz.targets.saying import refused

MOST = 16
AROUND = [Around("<s>", "", "</s>"), Around("", "", "")]


def of_vllm(body: Any) -> list[Item]:
    pooling = isinstance(body, vllm_body.Pooling)
    only.check(body, vllm_body.POOLING_ONLY if pooling else vllm_body.POOLED_ONLY)
    return vllm_body.items(body, MOST)


def of_sglang(body: Any) -> list[Item]:
    only.check(body, sglang.NATIVE_ONLY)
    single, items = sglang.items_in(body, MOST)
    assert len(sglang.names_in(body.rid, single, len(items))) == len(items)
    return items


def of_embeddings(body: Any) -> list[Item]:
    only.check(body, sglang.EMBEDDINGS_ONLY)
    return inputs.items_of(body.input, "input", MOST)


def of_cohere(body: Any) -> list[Item]:
    only.check(body, cohere.RERANK_ONLY)
    texts = [one if isinstance(one, str) else one.text for one in body.documents]
    return [Item(prompt=body.query, response=text) for text in texts]


READERS: dict[type, Callable[[Any], list[Item]]] = {
    vllm_body.Classify: of_vllm,
    vllm_body.Pooling: of_vllm,
    sglang.Native: of_sglang,
    sglang.Embeddings: of_embeddings,
    cohere.Rerank: of_cohere,
    openrlhf.GetReward: lambda body: openrlhf.items_of(body, MOST),
    slime.Sample: lambda body: [slime.item_of(body)],
    tei.Predict: lambda body: tei.items_in(body.inputs, MOST)[1],
}
KINDS = tuple(READERS)
DECODERS: dict[type, Any] = {kind: msgspec.json.Decoder(kind) for kind in KINDS}


def seeds() -> list[bytes]:
    """Every golden body for every reader: what one refuses is near what another takes."""
    return [choosing(kind, KINDS, body) for _, body in golden.bodies() for kind in KINDS]


def one(data: bytes) -> None:
    """Items within the limit, each text with at most one BOS, or "malformed" or "too-large"."""
    kind, body = chosen(data, KINDS)
    try:
        found = decode(DECODERS[kind], body)
        items = READERS[kind](found)
        refuse_more(len(items), MOST)  # as Exchange.score asks of all of them
    except Failure as failure:
        refused(failure, "malformed", "too-large")
        return
    assert decode(DECODERS[kind], msgspec.json.encode(found)) == found
    for add in (False, True):
        fitted, bos = with_one_bos(items, AROUND[:1], add)
        assert len(fitted) == len(bos.found) == len(items)
        assert not any((item.text or "").startswith("<s><s>") for item in fitted)
    assert len(digests(items)) == len(items)
