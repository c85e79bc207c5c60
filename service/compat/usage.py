"""Tokens of a request, as vLLM, SGLang and OpenAI's clients read them."""

from msgspec import UNSET, Struct

from service.compat.exchange import Scored


class Usage(Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None
    completion_tokens_details: None = None


def usage_of(scored: Scored) -> Usage:
    """The tokens of all items once, of an ensemble those of one member: what was sent, not what
    was computed. An item with an error has none."""
    tokens = sum(0 if item.tokens is UNSET else item.tokens for item in scored.items)
    return Usage(tokens, tokens)
