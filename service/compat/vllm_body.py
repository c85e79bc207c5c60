"""What vLLM's ``/classify`` and ``/pooling`` can be asked, and what of it is done here.

Fields and defaults: vllm/entrypoints/pooling/base/protocol.py and its neighbours, 0.32. What it
does by ``use_activation``: vllm/model_executor/layers/pooler/activations.py; nothing for a
checkpoint whose problem_type is regression, as ours have it.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from plaudit.wire import Item, Message
from service.compat.binary import EmbedDtype, Endianness
from service.compat.exchange import Asked, Exchange, models_of
from service.compat.inputs import Input, items_of
from service.compat.only import Only, check
from service.member import Member
from service.problems import Failure

Side = Literal["left", "right"]


class Basic(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all of its routes take. ``user`` and ``cache_salt`` change nothing here; fields in
    ``ONLY`` have only the values named there."""

    model: str | None = None
    truncate_prompt_tokens: Annotated[int, Meta(ge=-1)] | None = None
    truncation_side: Side | None = None
    request_id: str | None = None
    user: str | None = None
    cache_salt: Annotated[str, Meta(min_length=1)] | None = None
    use_activation: bool | None = None
    priority: int | None = None
    padding: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    mm_processor_kwargs: dict[str, Any] | None = None


class Pooled(Basic, frozen=True):
    """What both routes take: ``input`` or ``messages``."""

    input: Input | None = None
    messages: list[Message] | None = None
    add_special_tokens: bool | None = None
    activation: bool | None = None  # what use_activation was called before 0.11.2
    chat_template: str | None = None
    add_generation_prompt: bool = False
    continue_final_message: bool = False
    media_io_kwargs: dict[str, Any] | None = None


class Classify(Pooled, frozen=True):
    """Body of ``POST /classify``."""


class Pooling(Pooled, frozen=True):
    """Body of ``POST /pooling``."""

    task: str | None = None
    encoding_format: Literal["float", "base64", "bytes", "bytes_only"] = "float"
    embed_dtype: EmbedDtype = "float32"
    endianness: Endianness = "native"
    dimensions: int | None = None


NO_ACTIVATION = (
    "the number is the score itself, without activation: send false or leave it out (its logistic "
    "function is in the answer of /predict)"
)
ONLY: Only = {
    "use_activation": ((None, False), NO_ACTIVATION),
    "priority": ((None, 0), "say it in the header X-Priority: train, eval or offline"),
    "padding": ((None, "do_not_pad"), "nothing is padded; leave it out"),
    "chat_template_kwargs": ((None, {}), "the template is used as it is; or send templated text"),
    "mm_processor_kwargs": ((None, {}), "only text is scored"),
}
POOLED_ONLY: Only = {
    **ONLY,
    "activation": ((None, False), NO_ACTIVATION),
    "chat_template": ((None,), "the checkpoint's own is used; or send templated text"),
    "add_generation_prompt": ((False,), "the last message is the response that is scored"),
    "continue_final_message": ((False,), "the last message is scored as it is"),
    "media_io_kwargs": ((None, {}), "only text is scored"),
}
POOLING_ONLY: Only = {
    **POOLED_ONLY,
    "task": ((None, "classify"), "the one task is classify"),
    "dimensions": ((None,), "a score has one; leave it out"),
}


def items(body: Pooled, most: int) -> list[Item]:
    """A conversation gets the template, and with it the special tokens that are its own."""
    match body:
        case Pooled(input=None, messages=list(messages)):
            if body.add_special_tokens:
                raise Failure(
                    "malformed",
                    "add_special_tokens: a conversation has those of the model's template; leave "
                    "it out",
                )
            return [Item(messages=messages)]
        case Pooled(input=str() | list() as given, messages=None):
            return items_of(given, "input", most)
    raise Failure("malformed", "a request has either input or messages")


def asked(body: Pooled, exchange: Exchange) -> Asked:
    """``body`` in our words; Failure "malformed" for what is not done here."""
    check(body, POOLING_ONLY if isinstance(body, Pooling) else POOLED_ONLY)
    return Asked(
        "vllm",
        items(body, exchange.max_items),
        body.model,
        *truncation(body, exchange),
        special_tokens=body.add_special_tokens is not False,
    )


def truncation(body: Basic, exchange: Exchange) -> tuple[Side | None, int | None]:
    """Where to cut and how many tokens to keep; None of either where the request does not say, as
    for -1 tokens, which are the model's."""
    tokens = body.truncate_prompt_tokens
    if tokens is None:
        return None, None
    models = models_of(exchange.chosen(body.model))
    most = min(model.manifest.max_tokens for model in models)
    if not (tokens == -1 or 0 < tokens <= most):
        raise Failure(
            "malformed",
            f"truncate_prompt_tokens is {tokens}: from 1 to the model's {most}, or -1 for those",
        )
    return body.truncation_side or tokenizer_side(models), None if tokens == -1 else tokens


def tokenizer_side(models: Sequence[Member]) -> Side:
    """Where vLLM cuts unless told: at the end, but for tokenizers that say otherwise."""
    sides: set[Side] = {model.encoder.tokenizer.truncation_side for model in models}
    if len(sides) > 1:
        raise Failure("malformed", "truncation_side: the members' tokenizers differ; name a side")
    return sides.pop()
