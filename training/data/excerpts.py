"""Training on the end of each prompt and the beginnings of its responses.

How a response begins tells most of what there is to tell of it, and a short sequence costs a
fraction of a long one: a given time sees several times as many prompts. Text is cut, not ids, so
that every excerpt is closed by the template as a whole conversation is.
"""

import math
from dataclasses import replace
from functools import lru_cache
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from plaudit.checkpoint import Message
from training.data.sources import Pair
from training.data.splits import unit_digest


class Excerpts(BaseModel):
    """How much of a pair is trained on, in tokens of the backbone's tokenizer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt_tokens: int = Field(ge=1, description="last tokens of the conversation before")
    response_tokens: tuple[int, int] = Field(
        description="shortest and longest beginning of a response; one length for each prompt"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        shortest, longest = self.response_tokens
        if not 1 <= shortest <= longest:
            raise ValueError("response_tokens is [shortest, longest], from 1")
        return self

    def length_for(self, pair: Pair) -> int:
        """Log-uniform in ``response_tokens`` by the digest of the first turn: all responses to a
        prompt are cut at one length, so that no length tells the better one."""
        shortest, longest = self.response_tokens
        position = unit_digest(pair.first_turn, salt="excerpt")
        return round(shortest * math.exp(position * math.log(longest / shortest)))


class Excerpter:
    """Cuts pairs by ``excerpts``. ``tokenizer`` is a fast one: it must know offsets."""

    def __init__(self, excerpts: Excerpts, tokenizer: Any):
        self._excerpts, self._tokenizer = excerpts, tokenizer
        self._starts = lru_cache(maxsize=4096)(self._offsets)

    def __call__(self, pair: Pair) -> Pair:
        length = self._excerpts.length_for(pair)
        return replace(
            pair,
            prompt=self._end(pair.prompt),
            chosen=self._beginning(pair.chosen, length),
            rejected=self._beginning(pair.rejected, length),
        )

    def _offsets(self, text: str) -> list[tuple[int, int]]:
        """Where in the text each of its tokens begins and ends."""
        encoded = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
        offsets: list[tuple[int, int]] = encoded["offset_mapping"]
        return offsets

    def _beginning(self, text: str, tokens: int) -> str:
        offsets = self._starts(text)
        return text if len(offsets) <= tokens else text[: offsets[tokens - 1][1]]

    def _end(self, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
        """The last turns; the earliest kept is a user's, and cut at its start if need be."""
        left = self._excerpts.prompt_tokens
        kept: list[Message] = []
        for turn in reversed(prompt):
            offsets = self._starts(turn["content"])
            if left <= 0:
                break
            text = turn["content"]
            if len(offsets) > left:
                text = text[offsets[-left][0] :]
            kept.append({**turn, "content": text})
            left -= len(offsets)
        while kept[-1]["role"] != "user":
            kept.pop()
        return tuple(reversed(kept))
