"""From what callers hold to requests of bounded size: every item once, in order.

Tokens are estimated, since the client has no tokenizer: a quarter of a text's UTF-8 bytes, rounded
up, and four for the template around each message. Token ids are counted as they are.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import msgspec

from plaudit.wire import EnsembleRequest, Group, Item, Message, Prompt, ScoreRequest

PromptLike = str | Sequence[Message | Mapping[str, object]]
ItemLike = Item | tuple[PromptLike, str] | Mapping[str, object]
GroupLike = Group | tuple[PromptLike, Sequence[str]] | Mapping[str, object]
# From what is shared by requests that should meet one cache, to the replicas to try in turn.
Route = Callable[[object], tuple[str, ...]]

BYTES_PER_TOKEN = 4
TOKENS_PER_MESSAGE = 4

T = TypeVar("T")
V = TypeVar("V", bound=Item | Group)


@dataclass(frozen=True)
class Budget:
    """What one request may hold; a single response may be over ``tokens``."""

    items: int
    tokens: int


@dataclass(frozen=True)
class Batch:
    """The part of a request that differs between batches: ``items`` or ``groups``, with their
    ``places`` in the call, and the replicas that it may go to, in that order."""

    places: list[int]
    replicas: tuple[str, ...]
    items: list[Item] | None = None
    groups: list[Group] | None = None

    @property
    def size(self) -> int:
        return len(self.places)


@dataclass(frozen=True)
class _Piece(Generic[V]):
    """What is never divided between requests."""

    value: V
    places: range
    tokens: int


def fill(
    template: ScoreRequest | EnsembleRequest, batches: Iterable[Batch]
) -> list[ScoreRequest | EnsembleRequest]:
    """One request a batch, otherwise as ``template``."""
    return [
        msgspec.structs.replace(template, items=batch.items, groups=batch.groups)
        for batch in batches
    ]


def split_items(items: Iterable[ItemLike], budget: Budget, route: Route) -> list[Batch]:
    """At least one batch, for an empty list too: its answer names the model.

    Raises ValueError, with the position, for what is not an item.
    """
    whole = [_converted(given, Item, "response", n) for n, given in enumerate(items)]
    pieces = [_Piece(item, range(n, n + 1), _tokens_of(item, n)) for n, item in enumerate(whole)]
    return [
        Batch(places, replicas, items=[piece.value for piece in part])
        for replicas, places, part in _packed(pieces, budget, route)
    ]


def split_groups(groups: Iterable[GroupLike], budget: Budget, route: Route) -> list[Batch]:
    """Whole groups where they fit; one larger than a request is cut, and its prompt sent again.

    Raises ValueError, with the position, for what is not a group.
    """
    whole = (_converted(given, Group, "responses", n) for n, given in enumerate(groups))
    return [
        Batch(places, replicas, groups=[piece.value for piece in part])
        for replicas, places, part in _packed(list(_cut(whole, budget)), budget, route)
    ]


def _cut(groups: Iterable[Group], budget: Budget) -> Iterator[_Piece[Group]]:
    first = 0
    for position, group in enumerate(groups):
        with _whole_characters("group", position):
            prompt = _prompt_tokens(group.prompt)
            costs = [_text_tokens(response) + TOKENS_PER_MESSAGE for response in group.responses]
        for start, end in _runs(costs, budget.items, budget.tokens - prompt):
            part = Group(group.prompt, group.responses[start:end])
            places = range(first + start, first + end)
            yield _Piece(part, places, prompt + sum(costs[start:end]))
        first += len(group.responses)


def _runs(costs: Sequence[int], most: int, tokens: int) -> Iterator[tuple[int, int]]:
    """Bounds of runs of at most ``most`` and, but for single ones, ``tokens``; one if empty."""
    start = used = 0
    for end, cost in enumerate(costs):
        if end > start and (end - start >= most or used + cost > tokens):
            yield start, end
            start, used = end, 0
        used += cost
    yield start, len(costs)


def _packed(
    pieces: Sequence[_Piece[V]], budget: Budget, route: Route
) -> Iterator[tuple[tuple[str, ...], list[int], list[_Piece[V]]]]:
    """Pieces in order, those of one first replica together, in parts within the budget."""
    shares: dict[str, list[tuple[tuple[str, ...], _Piece[V]]]] = {}
    for piece in pieces:
        replicas = route(prompt_of(piece.value))
        shares.setdefault(replicas[0], []).append((replicas, piece))
    if not shares:
        yield route(""), [], []
    for share in shares.values():
        for part in _parts(share, budget):
            together = [piece for _, piece in part]
            yield part[0][0], [place for piece in together for place in piece.places], together


def _parts(
    share: Sequence[tuple[tuple[str, ...], _Piece[V]]], budget: Budget
) -> Iterator[list[tuple[tuple[str, ...], _Piece[V]]]]:
    part: list[tuple[tuple[str, ...], _Piece[V]]] = []
    count = tokens = 0
    for replicas, piece in share:
        over = count + len(piece.places) > budget.items or tokens + piece.tokens > budget.tokens
        if part and over:
            yield part
            part, count, tokens = [], 0, 0
        part.append((replicas, piece))
        count, tokens = count + len(piece.places), tokens + piece.tokens
    yield part


def prompt_of(value: Item | Group) -> object:
    """What the requests about one prompt have in common; a templated text does not tell it."""
    if isinstance(value, Item):
        if value.messages is not None:
            return value.messages[:-1]
        if value.prompt is None:
            return value
    return [Message("user", value.prompt)] if isinstance(value.prompt, str) else value.prompt


def _tokens_of(item: Item, position: int) -> int:
    with _whole_characters("item", position):
        return estimated_tokens(item)


@contextmanager
def _whole_characters(kind: str, position: int) -> Iterator[None]:
    try:
        yield
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{kind} {position}: character {error.start} of a text is one half of a pair (a lone "
            "surrogate), which no request can hold: text.encode(errors='replace').decode() "
            "mends it"
        ) from error


def estimated_tokens(item: Item) -> int:
    messages = sum(map(_message_tokens, item.messages or ()))
    prompt = 0 if item.prompt is None else _prompt_tokens(item.prompt)
    response = 0 if item.response is None else _text_tokens(item.response) + TOKENS_PER_MESSAGE
    return prompt + response + messages + _text_tokens(item.text or "") + len(item.token_ids or ())


def _prompt_tokens(prompt: Prompt) -> int:
    if isinstance(prompt, str):
        return _text_tokens(prompt) + TOKENS_PER_MESSAGE
    return sum(map(_message_tokens, prompt))


def _message_tokens(message: Message) -> int:
    return _text_tokens(message.content) + TOKENS_PER_MESSAGE


def _text_tokens(text: str) -> int:
    return -(-len(text.encode()) // BYTES_PER_TOKEN)


def _converted(given: object, kind: type[T], second: str, position: int) -> T:
    """``second`` names the field of a pair that is not the prompt."""
    if isinstance(given, tuple) and len(given) == 2:
        given = {"prompt": given[0], second: given[1]}
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{kind.__name__.lower()} {position}: {error}") from error
