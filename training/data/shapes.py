"""How a row of each declared shape holds preference pairs. Pure; a reason never quotes a row.

Shapes, each with its columns (renamed by ``columns``):

- ``plaudit``: ``prompt`` a list of turns ending with the user's, ``chosen`` and ``rejected`` text.
- ``transcript``: ``chosen`` and ``rejected`` are Anthropic transcripts (``\\n\\nHuman: …
  \\n\\nAssistant: …``) that share all but the last turn.
- ``messages``: ``chosen`` and ``rejected`` are lists of turns that share all but the last one, as
  in UltraFeedback-binarized.
- ``lists``: ``prompt``, ``responses`` (texts) and ``better``, index pairs of which the first beats
  the second. What stands in no pair is a tie.
- ``win_probabilities``: ``prompt``, a ``reference`` ``{text}`` and ``responses`` ``{text,
  win_probability}``, as in AlpacaEval: each response against the reference, the probability as soft
  label. One half, and the reference itself, prefer nothing.

- unlabelled: ``prompt`` and ``responses``, texts that nobody has compared (:func:`responses_of`).

Any row may have a ``category``; a row of one pair also ``target_margin`` and ``soft_label``.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from plaudit.checkpoint import Message
from training.data.jsonlines import Row

Shape = Literal["plaudit", "transcript", "messages", "lists", "win_probabilities"]
# Beyond it a number is no margin, and an integer may not even fit a float.
MAX = 1e6
SEVERAL: frozenset[Shape] = frozenset({"lists", "win_probabilities"})


class RowError(ValueError):
    """A row, or one comparison of it, that does not fit its declared shape."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one prompt, the first preferred.

    ``target_margin`` is what the chosen score should lead by; ``soft_label``, at least one half, is
    the probability that the chosen response is the better one. ``rest`` holds the row's other
    columns.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: str
    category: str
    target_margin: float = 0.0
    soft_label: float = 1.0
    rest: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def first_turn(self) -> str:
        return next(turn["content"] for turn in self.prompt if turn["role"] == "user")

    @property
    def turns(self) -> tuple[tuple[str, str], ...]:
        """The whole prompt, hashable."""
        return tuple((turn["role"], turn["content"]) for turn in self.prompt)


class Comparison(NamedTuple):
    """What a row says of two responses, before it is checked."""

    prompt: list[Message]
    chosen: str
    rejected: str
    soft_label: float = 1.0
    target_margin: float = 0.0

    def likelier_first(self) -> "Comparison":
        """The same for training, and what is called right is the likelier: the loss of a pair is
        that of its sides swapped with ``1 - soft_label`` and ``-target_margin``."""
        if self.soft_label >= 0.5:
            return self
        return Comparison(
            self.prompt, self.rejected, self.chosen, 1 - self.soft_label, -self.target_margin
        )


class Columns:
    """A row's columns under our names; it remembers which were read."""

    def __init__(self, row: Row, names: Mapping[str, str]):
        self._row, self._names = row, names
        self._read: set[str] = set()

    def __call__(self, name: str) -> Any:
        actual = self._names.get(name, name)
        if actual not in self._row:
            raise RowError(f"no column {actual!r}")
        self._read.add(actual)
        return self._row[actual]

    def get(self, name: str) -> Any:
        """None where there is no such column, or nothing in it."""
        return self(name) if self._names.get(name, name) in self._row else None

    def rest(self) -> Row:
        return {name: value for name, value in self._row.items() if name not in self._read}


def pairs_of(
    row: Row, shape: Shape, names: Mapping[str, str], source: str
) -> tuple[list[Pair], list[str]]:
    """The pairs of one row, and the reasons for which it, or comparisons of it, are refused."""
    columns = Columns(row, names)
    try:
        found = list(SHAPES[shape](columns))
        if shape not in SEVERAL:
            found = [_with_label(found[0], columns)]
        elif any(columns.get(name) is not None for name in ("soft_label", "target_margin")):
            raise RowError("a row of several pairs has no soft_label or target_margin of its own")
        category = str(columns.get("category") or source)
    except RowError as error:
        return [], [str(error)]
    pairs: list[Pair] = []
    reasons: list[str] = []
    for comparison in found:
        try:
            _check(comparison)
        except RowError as error:
            reasons.append(str(error))
        else:
            prompt, chosen, rejected, label, margin = comparison.likelier_first()
            known = (source, category, margin, label, columns.rest())
            pairs.append(Pair(tuple(prompt), chosen, rejected, *known))
    return pairs, reasons


def responses_of(row: Row) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The prompt of an unlabelled row and its distinct responses, in their order."""
    columns = Columns(row, {})
    prompt = _turns(columns("prompt"))
    _check_prompt(prompt)
    texts = [_text(response) for response in _list(columns("responses"), "responses")]
    if not all(text.strip() for text in texts):
        raise RowError("an empty response")
    return tuple(prompt), tuple(dict.fromkeys(texts))


def _with_label(comparison: Comparison, columns: Columns) -> Comparison:
    label, margin = columns.get("soft_label"), columns.get("target_margin")
    return comparison._replace(
        soft_label=1.0 if label is None else _probability(label, "soft_label"),
        target_margin=0.0 if margin is None else _number(margin, "target_margin"),
    )


def _check(comparison: Comparison) -> None:
    _check_prompt(comparison.prompt)
    if not comparison.chosen.strip() or not comparison.rejected.strip():
        raise RowError("an empty response")
    if comparison.chosen == comparison.rejected:
        raise RowError("chosen equals rejected")


def _check_prompt(prompt: list[Message]) -> None:
    if not prompt or prompt[-1]["role"] != "user":
        raise RowError("the prompt does not end with a user turn")


def _from_plaudit(column: Columns) -> Iterator[Comparison]:
    yield Comparison(_turns(column("prompt")), _text(column("chosen")), _text(column("rejected")))


def _from_transcripts(column: Columns) -> Iterator[Comparison]:
    yield _join(_transcript(column("chosen")), _transcript(column("rejected")))


def _from_messages(column: Columns) -> Iterator[Comparison]:
    yield _join(_turns(column("chosen")), _turns(column("rejected")))


def _from_lists(column: Columns) -> Iterator[Comparison]:
    prompt = _turns(column("prompt"))
    responses = [_text(response) for response in _list(column("responses"), "responses")]
    for indices in _list(column("better"), "better"):
        match indices:
            case [int(winner), int(loser)] if {winner, loser} <= set(range(len(responses))):
                yield Comparison(prompt, responses[winner], responses[loser])
            case _:
                raise RowError("better is not a list of [winner, loser], indices of responses")


def _from_win_probabilities(column: Columns) -> Iterator[Comparison]:
    prompt = _turns(column("prompt"))
    reference = _text(_member(column("reference"), "text", "reference"))
    for response in _list(column("responses"), "responses"):
        text = _text(_member(response, "text", "a response"))
        wins = _probability(_member(response, "win_probability", "a response"), "a win_probability")
        if text == reference or wins == 0.5:
            continue
        yield Comparison(prompt, text, reference, wins)


SHAPES: dict[Shape, Callable[[Columns], Iterator[Comparison]]] = {
    "plaudit": _from_plaudit,
    "transcript": _from_transcripts,
    "messages": _from_messages,
    "lists": _from_lists,
    "win_probabilities": _from_win_probabilities,
}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise RowError(f"a response is {type(value).__name__}, not text")
    if any("\ud800" <= character <= "\udfff" for character in value):
        raise RowError("a lone surrogate, which no encoding can hold")
    return value


def _list(value: Any, name: str) -> list[Any]:
    if not isinstance(value, list):
        raise RowError(f"{name} is {type(value).__name__}, not a list")
    return value


def _member(value: Any, key: str, name: str) -> Any:
    if not isinstance(value, dict) or key not in value:
        raise RowError(f"{name} has no {key!r}")
    return value[key]


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX:
        raise RowError(f"{name} is not a finite number")
    return float(value)


def _probability(value: Any, name: str) -> float:
    number = _number(value, name)
    if not 0 <= number <= 1:
        raise RowError(f"{name} is not from 0 to 1")
    return number


def _turns(value: Any) -> list[Message]:
    if isinstance(value, str):
        return [{"role": "user", "content": _text(value)}]
    try:
        turns = [{"role": turn["role"], "content": _text(turn["content"])} for turn in value]
    except (TypeError, KeyError):
        raise RowError("turns are not a list of {role, content}") from None
    if any(turn["role"] not in ("system", "user", "assistant") for turn in turns):
        raise RowError("a turn has an unknown role")
    return turns


def _transcript(value: Any) -> list[Message]:
    pieces = re.split(r"\n\n(Human|Assistant): ?", _text(value))
    if pieces[0].strip() or len(pieces) < 3:
        raise RowError("not a Human/Assistant transcript")
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[who], "content": said.strip()}
        for who, said in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def _join(chosen: list[Message], rejected: list[Message]) -> Comparison:
    if not chosen or chosen[:-1] != rejected[:-1]:
        raise RowError("chosen and rejected differ before their last turn")
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise RowError("the last turn is not the assistant's")
    return Comparison(chosen[:-1], chosen[-1]["content"], rejected[-1]["content"])
