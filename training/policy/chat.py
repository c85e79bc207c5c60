"""A policy's own chat template: prompts ready to be answered, and responses behind them."""

from collections.abc import Collection, Sequence

from transformers import GenerationConfig
from transformers import PreTrainedTokenizerBase as Tokenizer

from plaudit.checkpoint import Message
from training import backbone, hub
from training.settings import SettingsError


class Chat:
    """``ends``: ids of the tokens that end a response."""

    def __init__(self, tokenizer: Tokenizer, ends: Sequence[int]):
        self.tokenizer = tokenizer
        self.ends = frozenset(ends)

    @classmethod
    def load(cls, model: str) -> "Chat":
        """SettingsError for a model without chat template, pad token or end of a response."""
        tokenizer = backbone.own_tokenizer(model)
        if not tokenizer.chat_template:
            raise SettingsError(f"{model} has no chat template: take an instruct model")
        if tokenizer.pad_token_id is None:
            raise SettingsError(
                f"{model} has no pad token; set tokenizer.pad_token to an unused token and save it"
            )
        ends = ends_of(model, tokenizer)
        if not ends:
            raise SettingsError(f"{model} has no eos token, so that no response would ever end")
        return cls(tokenizer, ends)

    def prompt(self, turns: Sequence[Message]) -> list[int]:
        """Ids up to where the response begins."""
        return self._ids(self._prompt_text(turns))

    def response(self, turns: Sequence[Message], response: str, finished: bool = True) -> list[int]:
        """Ids of the response with the token that ends it, as the policy would have to sample them
        behind ``prompt``.

        One that was cut, not ``finished``, does not end there: it has no end token, lest the policy
        learns to stop in mid-sentence.
        """
        before = self._prompt_text(turns)
        whole: str = self.tokenizer.apply_chat_template(
            [*turns, {"role": "assistant", "content": response}], tokenize=False
        )
        if not whole.startswith(before):
            raise SettingsError(
                "the chat template writes a prompt to be answered otherwise than the same prompt "
                "before its answer, so that a response cannot be told from its prompt; mend the "
                "template's generation prompt"
            )
        return own(self._ids(whole[len(before) :]), finished, self.ends, self.tokenizer)

    def length(self, ids: Sequence[int]) -> int:
        """How many tokens a response has: up to its end, which is its own last token."""
        return own_length(ids, self.ends)

    def text(self, ids: Sequence[int]) -> str:
        """Of a response's ids, without the end and other marks."""
        found: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return found

    def _prompt_text(self, turns: Sequence[Message]) -> str:
        found: str = self.tokenizer.apply_chat_template(
            list(turns), tokenize=False, add_generation_prompt=True
        )
        return found

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False).input_ids
        return ids


def own_length(ids: Sequence[int], ends: Collection[int]) -> int:
    """How many of ``ids`` come before the first of ``ends`` or are it."""
    return next((place + 1 for place, one in enumerate(ids) if one in ends), len(ids))


def own(
    ids: Sequence[int], finished: bool, ends: Collection[int], tokenizer: Tokenizer
) -> list[int]:
    """Of what the template writes for a response: up to its end, and without it where the response
    was cut. SettingsError where the template shows no end to take off."""
    found = list(ids[: own_length(ids, ends)])
    if finished:
        return found
    if not found or found[-1] not in ends:
        known = ", ".join(tokenizer.convert_ids_to_tokens(sorted(ends))) or "none"
        raise SettingsError(
            f"a response was cut, and the chat template used with {tokenizer.name_or_path} ends it "
            f"with no eos token of the model ({known}), so that its end cannot be taken off: add "
            "the token that the template writes there to eos_token_id in generation_config.json"
        )
    return found[:-1]


def ends_of(model: str, tokenizer: Tokenizer) -> list[int]:
    """The tokenizer's eos, and those that the model's generation settings name."""
    try:
        named = GenerationConfig.from_pretrained(model, revision=hub.revision(model)).eos_token_id
    except OSError:  # the model has no such file
        named = None
    several = named if isinstance(named, list) else [named]
    return sorted({one for one in (tokenizer.eos_token_id, *several) if one is not None})
