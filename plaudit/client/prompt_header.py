"""For a router in front of the replicas: which requests should meet one cache."""

from hashlib import blake2b

import msgspec

from plaudit.client.batches import Batch, prompt_of

PROMPT_HEADER = "X-Prompt-Hash"


def prompt_header(batch: Batch) -> dict[str, str]:
    """A digest of the prompt that all of a request is about; empty if it is about several."""
    values = [*(batch.items or ()), *(batch.groups or ())]
    prompts = map(prompt_of, values)
    first = next(prompts, None)
    if first is None or any(prompt != first for prompt in prompts):
        return {}
    return {PROMPT_HEADER: blake2b(msgspec.json.encode(first), digest_size=16).hexdigest()}
