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
- ``rm_bench``, ``rewardbench``, ``rewardbench2``: see ``benchmarks``.

- unlabelled: ``prompt`` and ``responses``, texts that nobody has compared (:func:`responses_of`).

Any row may have a ``category``; a row of one pair also ``target_margin`` and ``soft_label``, and
``chosen_finished`` and ``rejected_finished``, false of a response that was cut at a limit.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

from plaudit.checkpoint import Message
from training.data.benchmarks import (
    Benchmark,
    from_rewardbench,
    from_rewardbench2,
    from_rm_bench,
)
from training.data.columns import (
    Columns,
    RowError,
    items,
    member,
    number,
    probability,
    text,
    texts,
    turns,
)
from training.data.groups import Comparison, Group
from training.data.jsonlines import Row

Shape = Literal["plaudit", "transcript", "messages", "lists", "win_probabilities"] | Benchmark
SEVERAL: frozenset[Shape] = frozenset({"lists", "win_probabilities"})
EVALUATION_ONLY: frozenset[Shape] = frozenset(get_args(Benchmark))
# What is known of the label of a row of one pair.
LABEL = ("soft_label", "target_margin")
# Whether the two responses of a row ended by themselves.
FINISHED = ("chosen_finished", "rejected_finished")
# Their category is the subset.
BY_SUBSET: frozenset[Shape] = frozenset({"rewardbench", "rewardbench2"})
# Their rows have figures of their own, so that none may lose a part.
LISTED: frozenset[Shape] = frozenset({"lists", "rm_bench", "rewardbench2"})


@dataclass(frozen=True, slots=True)
class Pair:
    """Two responses to one prompt, the first preferred.

    ``target_margin`` is what the chosen score should lead by; ``soft_label``, at least one half, is
    the probability that the chosen response is the better one. With ``word_limit`` the prompt asks
    for at most so many words. ``finished`` says which of the two ended by themselves. ``rest``
    holds the row's other columns; ``line`` is where it stands in its file, ``places`` where the two
    stand in its group. A ``benchmark``'s pairs are never trained on.
    """

    prompt: tuple[Message, ...]
    chosen: str
    rejected: str
    source: str
    category: str
    target_margin: float = 0.0
    soft_label: float = 1.0
    word_limit: int | None = None
    finished: tuple[bool, bool] = (True, True)
    rest: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    line: int = field(default=0, compare=False)
    places: tuple[int, int] = field(default=(0, 1), compare=False)
    benchmark: bool = field(default=False, compare=False)

    @property
    def first_turn(self) -> str:
        return first_user_turn(self.prompt)

    @property
    def asked(self) -> list[Message]:
        """The prompt as a model reads it, with the limit; the first turn, which decides the side of
        a split, stays as it was."""
        if self.word_limit is None:
            return list(self.prompt)
        *before, last = self.prompt
        limit = f"Answer in at most {self.word_limit} words."
        return [*before, {**last, "content": f"{last['content']}\n\n{limit}"}]

    @property
    def turns(self) -> tuple[tuple[str, str], ...]:
        """The whole prompt, hashable."""
        return tuple((turn["role"], turn["content"]) for turn in self.asked)


def group_of(row: Row, shape: Shape, names: Mapping[str, str], line: int) -> Group:
    """What one row says; RowError where it does not fit its shape."""
    columns = Columns(row, names)
    group = SHAPES[shape].read(columns)
    _check_prompt(group.prompt)
    if shape not in SEVERAL | EVALUATION_ONLY:
        labelled = _with_label(group.comparisons[0], columns)
        group = replace(group, comparisons=[labelled], finished=_finished(columns))
    elif any(columns.get(name) is not None for name in LABEL):
        raise RowError("a row of several pairs has no soft_label or target_margin of its own")
    category = columns.get("subset" if shape in BY_SUBSET else "category")
    known = str(category) if category else None
    return replace(group, category=known, line=line, rest=columns.rest())


def columns_of(shape: Shape) -> list[str]:
    """Our names of all columns that a row of this shape may have, which ``columns`` renames."""
    found = [*SHAPES[shape].columns]
    if shape not in BY_SUBSET:
        found.append("category")
    if shape not in SEVERAL | EVALUATION_ONLY:
        found += LABEL + FINISHED
    return found


def pairs_of(group: Group, source: str, benchmark: bool) -> tuple[list[Pair], list[str]]:
    """The pairs of a group, and the reasons for which comparisons of it are refused.

    A benchmark's figures are over whole rows: one that is refused costs the others.
    """
    pairs: list[Pair] = []
    reasons: list[str] = []
    for comparison in group.comparisons:
        try:
            group.check(comparison)
        except RowError as error:
            reasons.append(str(error))
        else:
            pairs.append(_pair(group, comparison.likelier_first(), source, benchmark))
    return ([], reasons[:1]) if benchmark and reasons else (pairs, reasons)


def _pair(group: Group, comparison: Comparison, source: str, benchmark: bool) -> Pair:
    chosen, rejected, label, margin = comparison
    return Pair(
        prompt=tuple(group.prompt),
        chosen=group.responses[chosen],
        rejected=group.responses[rejected],
        source=source,
        category=group.category or source,
        target_margin=margin,
        soft_label=label,
        finished=(True, True)
        if group.finished is None
        else (group.finished[chosen], group.finished[rejected]),
        rest=group.rest,
        line=group.line,
        places=(chosen, rejected),
        benchmark=benchmark,
    )


def responses_of(row: Row) -> tuple[tuple[Message, ...], tuple[str, ...]]:
    """The prompt of an unlabelled row and its distinct responses, in their order."""
    columns = Columns(row, {})
    prompt = prompt_of(columns)
    responses = texts(columns("responses"), "responses")
    if not all(response.strip() for response in responses):
        raise RowError("an empty response")
    return prompt, tuple(dict.fromkeys(responses))


def prompt_of(columns: Columns) -> tuple[Message, ...]:
    """RowError unless it is turns that end with the user's."""
    prompt = turns(columns("prompt"))
    _check_prompt(prompt)
    return tuple(prompt)


def first_user_turn(conversation: Sequence[Message]) -> str:
    """What decides the side of a conversation."""
    return next(turn["content"] for turn in conversation if turn["role"] == "user")


def _check_prompt(prompt: Sequence[Message]) -> None:
    if not prompt or prompt[-1]["role"] != "user":
        raise RowError("the prompt does not end with a user turn")


def _with_label(comparison: Comparison, columns: Columns) -> Comparison:
    label, margin = columns.get("soft_label"), columns.get("target_margin")
    return comparison._replace(
        soft_label=1.0 if label is None else probability(label, "soft_label"),
        target_margin=0.0 if margin is None else number(margin, "target_margin"),
    )


def _finished(columns: Columns) -> list[bool]:
    known = [columns.get(name) for name in FINISHED]
    if not all(one is None or isinstance(one, bool) for one in known):
        raise RowError(f"{' or '.join(FINISHED)} is not true or false")
    return [one is not False for one in known]


def finished_columns(chosen: bool, rejected: bool) -> Row:
    """What a row says of the ends of its responses: nothing where both ended by themselves."""
    return {} if chosen and rejected else dict(zip(FINISHED, (chosen, rejected), strict=True))


def _two(prompt: list[Message], chosen: str, rejected: str) -> Group:
    return Group(prompt, [chosen, rejected], [Comparison(0, 1)])


def _from_plaudit(column: Columns) -> Group:
    return _two(turns(column("prompt")), text(column("chosen")), text(column("rejected")))


def _from_transcripts(column: Columns) -> Group:
    return _join(_transcript(column("chosen")), _transcript(column("rejected")))


def _from_messages(column: Columns) -> Group:
    return _join(turns(column("chosen")), turns(column("rejected")))


def _from_lists(column: Columns) -> Group:
    responses = texts(column("responses"), "responses")
    places, comparisons = set(range(len(responses))), []
    for indices in items(column("better"), "better"):
        match indices:
            case [int(winner), int(loser)] if {winner, loser} <= places:
                comparisons.append(Comparison(winner, loser))
            case _:
                raise RowError("better is not a list of [winner, loser], indices of responses")
    return Group(turns(column("prompt")), responses, comparisons)


def _from_win_probabilities(column: Columns) -> Group:
    """The reference is the first response."""
    reference = text(member(column("reference"), "text", "reference"))
    graded = items(column("responses"), "responses")
    responses = [text(member(one, "text", "a response")) for one in graded]
    wins = [
        probability(member(one, "win_probability", "a response"), "a win_probability")
        for one in graded
    ]
    comparisons = [
        Comparison(place, 0, label)
        for place, (response, label) in enumerate(zip(responses, wins, strict=True), start=1)
        if response != reference and label != 0.5
    ]
    return Group(turns(column("prompt")), [reference, *responses], comparisons)


class Layout(NamedTuple):
    """What a shape reads, and the columns of its own that it reads there."""

    read: Callable[[Columns], Group]
    columns: tuple[str, ...]


SIDES = ("chosen", "rejected")
SHAPES: dict[Shape, Layout] = {
    "plaudit": Layout(_from_plaudit, ("prompt", *SIDES)),
    "transcript": Layout(_from_transcripts, SIDES),
    "messages": Layout(_from_messages, SIDES),
    "lists": Layout(_from_lists, ("prompt", "responses", "better")),
    "win_probabilities": Layout(_from_win_probabilities, ("prompt", "reference", "responses")),
    "rm_bench": Layout(from_rm_bench, ("prompt", "chosen_styles", "rejected_styles")),
    "rewardbench": Layout(from_rewardbench, ("prompt", *SIDES, "subset")),
    "rewardbench2": Layout(
        from_rewardbench2, ("prompt", *SIDES, "subset", "num_correct", "total_completions")
    ),
}


def _transcript(value: Any) -> list[Message]:
    pieces = re.split(r"\n\n(Human|Assistant): ?", text(value))
    if pieces[0].strip() or len(pieces) < 3:
        raise RowError("not a Human/Assistant transcript")
    roles = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": roles[who], "content": said.strip()}
        for who, said in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def _join(chosen: list[Message], rejected: list[Message]) -> Group:
    if not chosen or chosen[:-1] != rejected[:-1]:
        raise RowError("chosen and rejected differ before their last turn")
    if chosen[-1]["role"] != "assistant" or rejected[-1]["role"] != "assistant":
        raise RowError("the last turn is not the assistant's")
    return _two(chosen[:-1], chosen[-1]["content"], rejected[-1]["content"])
