"""The bodies of requests: what one of them holds, and which of them repeat."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Literal

import msgspec

from plaudit.wire import EnsembleRequest, Group, Item, ScoreRequest, Truncation
from service.bench.texts import MARK, Texts, singles

Kind = Literal["groups", "single", "repeats"]
# Bodies of generated texts that are made before the clock runs; beyond them only the mark changes.
MADE = 64


@dataclass(frozen=True)
class Shape:
    """What one request asks: of ``groups`` prompts ``responses`` each, or of single items."""

    kind: Kind
    groups: int
    responses: int
    distinct: int

    @property
    def items(self) -> int:
        return self.groups * self.responses if self.kind == "groups" else 1

    def describe(self) -> str:
        if self.kind == "groups":
            return f"groups: {self.groups} prompts with {self.responses} responses in a request"
        if self.kind == "single":
            return "single: one item in a request"
        return f"repeats: one item in a request, {self.distinct} different ones over and over"


@dataclass(frozen=True)
class Target:
    """Who is asked: a model, or an ensemble, by name."""

    model: str | None
    ensemble: str | None
    truncation: Truncation

    @property
    def path(self) -> str:
        return "/score" if self.ensemble is None else "/ensemble_score"

    def request(self, items: list[Item] | None, groups: list[Group] | None) -> bytes:
        body: ScoreRequest | EnsembleRequest
        if self.ensemble is None:
            body = ScoreRequest(self.model, items, groups, truncation=self.truncation)
        else:
            body = EnsembleRequest(self.ensemble, items, groups, truncation=self.truncation)
        return msgspec.json.encode(body)


class Bodies:
    """``body(n)`` of request ``n``. Generated texts begin with a mark that is new in each request
    of each ``run`` (eight hexadecimal digits), lest a cache knows them; that of repeats is new in
    each run. A user's texts stay as they are."""

    def __init__(self, shape: Shape, target: Target, texts: Iterator[Texts], made: int, run: str):
        count = min(made, shape.distinct) if shape.kind == "repeats" else made
        self._made = [one_body(shape, target, texts) for _ in range(count)]
        self._run, self._renew = run, shape.kind != "repeats"
        self.items = shape.items

    def body(self, number: int) -> bytes:
        made = self._made[number % len(self._made)]
        request = number % 10**8 if self._renew else 0
        return made.replace(MARK.encode(), f"n{self._run}{request:08}".encode())


def of_file(shape: Shape, target: Target, rows: Sequence[Texts], run: str) -> Bodies:
    """All that a user's file has, before any of it comes again."""
    if shape.kind == "groups":
        return Bodies(shape, target, cycle(rows), math.ceil(len(rows) / shape.groups), run)
    items = singles(rows)
    return Bodies(shape, target, iter(items), len(items), run)


def one_body(shape: Shape, target: Target, texts: Iterator[Texts]) -> bytes:
    if shape.kind != "groups":
        one = next(texts)
        return target.request([Item(prompt=one.prompt, response=one.responses[0])], None)
    groups = [
        Group(one.prompt, list(islice(cycle(one.responses), shape.responses)))
        for one in islice(texts, shape.groups)
    ]
    return target.request(None, groups)
