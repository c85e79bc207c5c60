"""The tokenizer and the chat template of a checkpoint, tried on a short conversation."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from plaudit.conversation import ConversationError, Encoder
from service.doctor.finding import Finding, failed, ok, warning

CONVERSATION = [
    {"role": "user", "content": "How do I boil an egg?"},
    {"role": "assistant", "content": "Eight minutes in boiling water."},
]


def check(name: str, directory: Path, config: dict[str, Any]) -> Iterator[Finding]:
    """``config`` is the parsed config.json, which asks for no remote code."""
    label = f"{name} tokenizer"
    try:
        encoder = Encoder.load(directory, max_tokens=4096)
    except Exception as error:  # noqa: BLE001 - the tokenizer library raises what it likes
        yield failed(
            label, f"cannot be loaded: {type(error).__name__}: {error}",
            "python -c 'from transformers import AutoTokenizer as T; "
            f'T.from_pretrained("BASE").save_pretrained("{directory}")\'',
        )  # fmt: skip
        return
    yield vocabulary(label, encoder)
    yield padding(f"{name} pad token", config["pad_token_id"], encoder.tokenizer.pad_token_id)
    yield template(f"{name} template", encoder)


def vocabulary(label: str, encoder: Encoder) -> Finding:
    """A token that the model has no embedding for ends a forward."""
    count = len(encoder.tokenizer)
    if count > encoder.vocab_size:
        return failed(
            label, f"{count} tokens, and the model has {encoder.vocab_size}",
            "python -c 'model.resize_token_embeddings(len(tokenizer))' where it was trained",
        )  # fmt: skip
    return ok(label, f"{count} tokens")


def padding(label: str, of_config: int, of_tokenizer: int | None) -> Finding:
    if of_config != of_tokenizer:
        return warning(
            label,
            f"{of_config} in config.json, {of_tokenizer} in the tokenizer: other tools read the "
            "score at another place",
            "save model and tokenizer with one pad token",
        )
    return ok(label, f"{of_config}, and not the end-of-text token")


def template(label: str, encoder: Encoder) -> Finding:
    if not encoder.has_template:
        return warning(
            label,
            "none: prompt and response cannot be scored, only text and token_ids",
            "add chat_template.jinja, as the model was trained with it",
        )
    try:
        ids = encoder.messages(CONVERSATION)
    except ConversationError as error:
        return failed(label, str(error), "correct chat_template.jinja")
    bos = encoder.tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        return failed(label, "begins with two BOS tokens", "take one out of chat_template.jinja")
    return ok(label, f"renders: {len(ids)} tokens for a question and an answer")
