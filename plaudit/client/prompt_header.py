"""For a router in front of the replicas: which requests should meet one cache."""

from hashlib import blake2b
from itertools import chain

import msgspec

from plaudit.client.batches import Batch, prompt_of

PROMPT_HEADER = "X-Prompt-Hash"


def prompt_header(batch: Batch) -> dict[str, str]:
    """A digest of the prompt that all of a request is about; empty if it is about several."""
    prompts = (prompt_of(value) for value in chain(batch.items or (), batch.groups or ()))
    first = next(prompts, None)
    if first is None or any(prompt != first for prompt in prompts):
        return {}
    return {PROMPT_HEADER: blake2b(msgspec.json.encode(first), digest_size=16).hexdigest()}
