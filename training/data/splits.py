"""Splits by the text of the first user turn, so a prompt never stands on two sides."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from training.data.jsonlines import DataError
from training.data.shapes import Pair

Item = TypeVar("Item")
Name = Literal["train", "validation", "test", "held_out"]


class Prompted(Protocol):
    """A pair, or responses without labels: what has a first user turn."""

    @property
    def first_turn(self) -> str: ...


class Fold(BaseModel):
    """One of ``count`` equal parts of the train side's prompts, which is not trained on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(ge=2, description="parts of the train side")
    held_out: int = Field(ge=0, description="the part, from 0, that is not trained on")

    @model_validator(mode="after")
    def _is_one_of_them(self) -> "Fold":
        if self.held_out >= self.count:
            raise ValueError(f"held_out is {self.held_out}, the parts are 0 to {self.count - 1}")
        return self


class Split(BaseModel):
    """Shares of the held-out sides; the rest is train, less a fold where one is held out. The same
    for every source, since prompts repeat across sources."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    validation: float = Field(0.1, ge=0, lt=1, description="share of first turns in validation")
    test: float = Field(0.2, ge=0, lt=1, description="share of first turns in test")
    fold: Fold | None = Field(
        None, description="a part of train that is held out, {count, held_out}"
    )

    def side(self, item: Prompted) -> Name:
        position = unit_digest(item.first_turn)
        if position < self.test:
            return "test"
        if position < self.test + self.validation:
            return "validation"
        if self.fold is not None and fold_of(item, self.fold.count) == self.fold.held_out:
            return "held_out"
        return "train"


def fold_of(item: Prompted, count: int) -> int:
    """Which of ``count`` parts of the prompts an item's first turn stands in."""
    return int(unit_digest(item.first_turn, salt="fold") * count)


def halves(
    items: Sequence[Item], prompt: Callable[[Item], str], salt: str
) -> tuple[list[Item], list[Item]]:
    """Items of the half of the prompts by which something is chosen, and of the half that is
    reported, ranked by digest with a salt, in their order. Of an odd number the latter has more."""
    of = [prompt(item).strip() for item in items]
    ranked = sorted(set(of), key=lambda text: unit_digest(text, salt))
    chosen = set(ranked[: len(ranked) // 2])
    sides: tuple[list[Item], list[Item]] = ([], [])
    for item, text in zip(items, of, strict=True):
        sides[text not in chosen].append(item)
    return sides


def unit_digest(text: str, salt: str = "") -> float:
    """A number in [0, 1) that depends on the text alone."""
    digest = hashlib.sha256(f"{salt}{text.strip()}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def select(pairs: Iterable[Pair], split: Split, name: Name, max_pairs: int | None) -> list[Pair]:
    """The pairs of one side in file order; ``max_pairs`` of them, chosen by digest.

    A benchmark has no side.
    """
    pairs = list(pairs)
    benchmark = next((pair.source for pair in pairs if pair.benchmark), None)
    if benchmark is not None:
        raise DataError(
            f"{benchmark}: a benchmark, which is never trained on nor part of a checkpoint's "
            "statistics; take it out of these settings and give it to plaudit evaluate"
        )
    side = [pair for pair in pairs if split.side(pair) == name]
    return side if max_pairs is None else sample(side, max_pairs, key=lambda pair: pair)


def sample(items: Sequence[Item], count: int, key: Callable[[Item], Pair]) -> list[Item]:
    """``count`` items in their order, ranked by the digest of their pair alone."""
    return _first(items, count, lambda item: _pair_digest(key(item)))


def sample_rows(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """Pairs of whole rows of a file, in their order, rows ranked by digest: as many as ``count``
    pairs hold, and at least one."""
    rows: dict[int, list[int]] = {}
    for place, pair in enumerate(pairs):
        rows.setdefault(pair.line, []).append(place)
    kept: list[int] = []
    for places in sorted(rows.values(), key=lambda places: _pair_digest(pairs[places[0]])):
        if kept and len(kept) + len(places) > count:
            break
        kept += places
    return [pairs[place] for place in sorted(kept)]


def sample_prompts(items: Sequence[Item], count: int, key: Callable[[Item], Pair]) -> list[Item]:
    """``count`` items in their order, whole prompts ranked by digest; the last may be in part.

    Pairs of one prompt share it, and often a response: together they cost a packed forward less.
    """

    def rank(item: Item) -> tuple[float, float]:
        pair = key(item)
        return unit_digest(pair.first_turn, salt="sample"), _pair_digest(pair)

    return _first(items, count, rank)


def by_prompt(items: Iterable[Item], key: Callable[[Item], Pair]) -> list[list[Item]]:
    """The items of each whole prompt together, prompts in the order of their first."""
    found: dict[tuple[tuple[str, str], ...], list[Item]] = {}
    for item in items:
        found.setdefault(key(item).turns, []).append(item)
    return list(found.values())


def sample_each_prompt(
    items: Sequence[Item], count: int, key: Callable[[Item], Pair]
) -> list[Item]:
    """Of every prompt ``count`` items, ranked by the digest of their pair, in their order."""
    kept = [
        place
        for group in by_prompt(range(len(items)), key=lambda place: key(items[place]))
        for place in sample(group, count, key=lambda place: key(items[place]))
    ]
    return [items[place] for place in sorted(kept)]


def _pair_digest(pair: Pair) -> float:
    return unit_digest(f"{pair.first_turn}\0{pair.chosen}\0{pair.rejected}", salt="sample")


def _first(items: Sequence[Item], count: int, rank: Callable[[Item], Any]) -> list[Item]:
    kept = sorted(range(len(items)), key=lambda position: rank(items[position]))[:count]
    return [items[position] for position in sorted(kept)]
