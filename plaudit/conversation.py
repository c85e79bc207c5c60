"""From conversations to token ids, with the checkpoint's own template.

Text becomes ids here and nowhere else; queue, cache, batcher and engines see only ids.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer

from plaudit import fewest_tokens
from plaudit.checkpoint import Message
from plaudit.wire import ItemErrorType, Truncation


class ConversationError(ValueError):
    """An item that cannot become a sequence of token ids; ``kind`` is its wire type."""

    def __init__(self, kind: ItemErrorType, detail: str):
        super().__init__(detail)
        self.kind = kind


def is_panic(error: BaseException) -> bool:
    """Whether Rust panicked. Each library that is written in it has a class of this name, which is
    no Exception and cannot be imported: pyo3.rs, "PanicException"."""
    kind = type(error)
    return (kind.__module__, kind.__name__) == ("pyo3_runtime", "PanicException")


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Token ids ready to score and how many tokens were cut from them."""

    ids: list[int]
    truncated: int = 0


@dataclass(frozen=True, slots=True)
class Around:
    """What a tokenizer adds to a text by itself: ``<s>`` and nothing, ``[CLS]`` and ``[SEP]``; and
    ``end``, the token that it has for the end of a text or a turn, empty if none."""

    before: str
    after: str
    end: str = ""


class Encoder:
    """Encodes with one checkpoint's tokenizer. Thread-safe: the Rust tokenizer holds no state."""

    def __init__(self, tokenizer: Any, vocab_size: int, max_tokens: int):
        self.tokenizer = tokenizer
        self.vocab_size = vocab_size
        self.max_tokens = max_tokens
        self.has_template = bool(tokenizer.chat_template)

    @classmethod
    def load(cls, directory: Path, max_tokens: int) -> "Encoder":
        config = AutoConfig.from_pretrained(directory, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(directory, trust_remote_code=False)
        return cls(tokenizer, config.vocab_size, max_tokens)

    def messages(self, messages: Sequence[Message], most: int | None = None) -> list[int]:
        """Ids of a whole conversation; the last message is the response that is judged. ``most``:
        as in ``text``."""
        if not self.has_template:
            raise ConversationError(
                "no-template",
                "this model's tokenizer has no chat template: send text or token_ids instead",
            )
        if not messages or messages[-1]["role"] != "assistant":
            raise ConversationError("no-response", "the last message must be the assistant's")
        if not messages[-1]["content"]:
            raise ConversationError("empty", "the response is empty")
        try:
            text = self.tokenizer.apply_chat_template(list(messages), tokenize=False)
        except Exception:  # noqa: BLE001  a template is a program: it may raise anything
            raise ConversationError(
                "malformed", "the model's chat template refuses these turns"
            ) from None
        return self.text(text, most)

    def pair(
        self, prompt: str | Sequence[Message], response: str, most: int | None = None
    ) -> list[int]:
        """Ids of a prompt (a string is one user turn) followed by a response. ``most``: as in
        ``text``."""
        turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        return self.messages([*turns, {"role": "assistant", "content": response}], most)

    def text(self, text: str, most: int | None = None) -> list[int]:
        """Ids of templated text: no special token is added, so BOS is never doubled. A text that
        must have more than ``most`` tokens is refused without being tokenised."""
        if not text:
            raise ConversationError("empty", "the text is empty")
        if most is not None and (fewest := self.at_least(text)) > most:
            raise ConversationError("too-long", f"at least {fewest} tokens, the limit is {most}")
        ids = self._ids(text)
        if not ids:
            raise ConversationError("empty", "the text has no tokens")
        return ids

    def _ids(self, text: str) -> list[int]:
        try:
            ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        except BaseException as error:
            if not (isinstance(error, Exception) or is_panic(error)):
                raise
            raise ConversationError(
                "malformed", "the model's tokenizer fails on this text"
            ) from None
        return ids

    def at_least(self, text: str) -> int:
        """What a text has at least, told from its length; 0 where that tells nothing."""
        return 0 if self._bound is None else self._bound.tokens(text)

    @cached_property
    def _bound(self) -> fewest_tokens.Bound | None:
        return fewest_tokens.bound(self.tokenizer)

    @cached_property
    def around(self) -> Around:
        """The special tokens that this tokenizer puts around a text unless told not to."""
        encoded = self.tokenizer("a", return_special_tokens_mask=True)
        tokens = self.tokenizer.convert_ids_to_tokens(encoded.input_ids)
        own = [i for i, special in enumerate(encoded.special_tokens_mask) if not special]
        before, after = "".join(tokens[: own[0]]), "".join(tokens[own[-1] + 1 :])
        return Around(before, after, self.tokenizer.eos_token or "")

    def check_ids(self, ids: Sequence[int]) -> list[int]:
        """Ids given by the caller, unchanged, if each is in the vocabulary."""
        if not ids:
            raise ConversationError("empty", "token_ids is empty")
        for position, token in enumerate(ids):
            if not 0 <= token < self.vocab_size:
                raise ConversationError(
                    "token-out-of-range",
                    f"token_ids[{position}] is {token}, the vocabulary has {self.vocab_size}",
                )
        return list(ids)

    def fit(
        self, ids: list[int], truncation: Truncation, max_tokens: int | None = None
    ) -> TokenSequence:
        """Apply the truncation policy; ``left`` keeps the end, where the response is. The limit is
        ``max_tokens`` where that is lower than the model's."""
        limit = self.limit(max_tokens)
        over = len(ids) - limit
        if over <= 0:
            return TokenSequence(ids)
        if truncation == "error":
            raise ConversationError("too-long", f"{len(ids)} tokens, the limit is {limit}")
        kept = ids[over:] if truncation == "left" else ids[:limit]
        return TokenSequence(kept, truncated=over)

    def limit(self, max_tokens: int | None) -> int:
        """The lower of ``max_tokens`` and the model's own."""
        return self.max_tokens if max_tokens is None else min(max_tokens, self.max_tokens)
