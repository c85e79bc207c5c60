"""From wire items to token ids: one error per bad item, never one for its neighbours."""

from dataclasses import dataclass

from plaudit.conversation import ConversationError, Encoder
from plaudit.wire import Group, Item, ItemError, Prompt, Truncation
from service.cache import key_of
from service.member import Member
from service.problems import Failure

NO_LENGTH = (
    "this model's rewards depend on the length of the response, which text alone and token_ids do "
    "not tell: send prompt and response, messages, or the response beside the text"
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What an item is to everything but the engine: its score's key, its tokens, those cut away,
    the length of its response where the item tells it apart."""

    key: bytes
    tokens: int
    truncated: int
    characters: int | None


@dataclass(frozen=True, slots=True)
class Cut:
    """What becomes of an item that is too long; ``max_tokens`` counts where it is lower than the
    model's own."""

    truncation: Truncation
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """An item ready to score."""

    ids: list[int]
    seen: Seen


def refuse_more(count: int, most: int) -> None:
    """Failure "too-large" for more than ``most`` items: to ask before they are made."""
    if count > most:
        raise Failure("too-large", f"{count} items, the limit is {most}")


def items_of(items: list[Item] | None, groups: list[Group] | None, most: int) -> list[Item]:
    """The items of a request, at most ``most``; groups are laid flat, in order."""
    if items is not None and groups is None:
        refuse_more(len(items), most)
        return items
    if groups is not None and items is None:
        refuse_more(sum(len(group.responses) for group in groups), most)
        return [Item(prompt=g.prompt, response=r) for g in groups for r in g.responses]
    raise Failure("malformed", "a request has either items or groups")


def encode(member: Member, numerics: str, item: Item, cut: Cut) -> Encoded | ItemError:
    """An item's token ids and their key, or its error."""
    # What is cut is counted in tokens, so only what is refused need not be tokenised.
    most = member.encoder.limit(cut.max_tokens) if cut.truncation == "error" else None
    try:
        ids = ids_of(member.encoder, item, most)
        fitted = member.encoder.fit(ids, cut.truncation, cut.max_tokens)
    except ConversationError as error:
        return ItemError(error.kind, str(error))
    characters = response_characters(item)
    if characters is None and member.manifest.calibration.reads_length:
        return ItemError("no-response", NO_LENGTH)
    key = key_of(member.revision, numerics, fitted.ids)
    return Encoded(fitted.ids, Seen(key, len(fitted.ids), fitted.truncated, characters))


def ids_of(encoder: Encoder, item: Item, most: int | None) -> list[int]:
    match item:
        case Item(prompt=None, response=None, messages=None, text=None, token_ids=list(ids)):
            return encoder.check_ids(ids)
        case Item(prompt=None, response=None, messages=None, text=str(text), token_ids=None):
            return encoder.text(text, most)
        case Item(prompt=None, response=str(response), messages=None, text=str(text),
                  token_ids=None):  # fmt: skip
            if response not in text:
                raise ConversationError("malformed", "the response is not in the text")
            return encoder.text(text, most)
        case Item(prompt=None, response=None, messages=list(messages), text=None, token_ids=None):
            return encoder.messages(turns(messages), most)
        case Item(prompt=str() | list() as prompt, response=str(response), messages=None,
                  text=None, token_ids=None):  # fmt: skip
            return encoder.pair(turns(prompt), response, most)
    raise ConversationError(
        "malformed", "an item is prompt and response, or messages, or text, or token_ids"
    )


def response_characters(item: Item) -> int | None:
    """The length of an item's response; None where prompt and response are not told apart."""
    if item.response is not None:
        return len(item.response)
    return len(item.messages[-1].content) if item.messages else None


def turns(prompt: Prompt) -> list[dict[str, str]]:
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [{"role": message.role, "content": message.content} for message in prompt]


# Of English, by the tokenizers of most models.
CHARACTERS = 4


def left_of(tokens: int, cut: Cut, most: int) -> int:
    """Of about so many tokens those to compute, at most ``most``: none where more are an error."""
    return tokens if tokens <= most else 0 if cut.truncation == "error" else most


def about_tokens(item: Item) -> int:
    """Tokens of an item before it is tokenised."""
    if item.token_ids is not None:
        return len(item.token_ids)
    if item.messages is not None:
        return sum(len(message.content) for message in item.messages) // CHARACTERS
    prompt = turns(item.prompt or "")
    texts = [item.text or "", item.response or "", *(turn["content"] for turn in prompt)]
    return sum(map(len, texts)) // CHARACTERS
