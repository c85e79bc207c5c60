"""From what callers hold to requests of bounded size: every item once, in order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from plaudit.wire import EnsembleRequest, Group, Item, Message, ScoreRequest

PromptLike = str | Sequence[Message | Mapping[str, object]]
ItemLike = Item | tuple[PromptLike, str] | Mapping[str, object]
GroupLike = Group | tuple[PromptLike, Sequence[str]] | Mapping[str, object]

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """The part of a request that differs between batches; ``size`` counts its items."""

    size: int
    items: list[Item] | None = None
    groups: list[Group] | None = None


def fill(
    template: ScoreRequest | EnsembleRequest, batches: Iterable[Batch]
) -> list[ScoreRequest | EnsembleRequest]:
    """One request a batch, otherwise as ``template``."""
    return [
        msgspec.structs.replace(template, items=batch.items, groups=batch.groups)
        for batch in batches
    ]


def split_items(items: Iterable[ItemLike], batch_items: int) -> list[Batch]:
    """At least one batch, for an empty list too: its answer names the model.

    Raises ValueError, with the position, for what is not an item.
    """
    whole = [_converted(given, Item, "response", n) for n, given in enumerate(items)]
    return [Batch(len(part), items=part) for part in _cut(whole, batch_items)]


def split_groups(groups: Iterable[GroupLike], batch_items: int) -> list[Batch]:
    """Whole groups while they fit; one larger than a batch is cut, and its prompt sent again.

    Raises ValueError, with the position, for what is not a group.
    """
    whole = (_converted(given, Group, "responses", n) for n, given in enumerate(groups))
    parts: list[list[Group]] = [[]]
    room = batch_items
    for group in whole:
        for responses in _cut(group.responses, batch_items):
            if len(responses) > room:
                parts.append([])
                room = batch_items
            parts[-1].append(Group(group.prompt, responses))
            room -= len(responses)
    return [Batch(sum(len(group.responses) for group in part), groups=part) for part in parts]


def _cut(whole: list[T], size: int) -> Iterator[list[T]]:
    for start in range(0, max(len(whole), 1), size):
        yield whole[start : start + size]


def _converted(given: object, kind: type[T], second: str, position: int) -> T:
    """``second`` names the field of a pair that is not the prompt."""
    if isinstance(given, tuple) and len(given) == 2:
        given = {"prompt": given[0], second: given[1]}
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{kind.__name__.lower()} {position}: {error}") from error
