"""``plaudit label``: pairs from what a service rewards: the best and the worst of K, or old pairs.

The rewards are those of one revision: a model exchanged meanwhile is refused.
"""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import msgspec
from msgspec import Struct

from plaudit.checkpoint import Message
from plaudit.whole_file import write_whole
from plaudit.wire import Truncation
from training.data import sources
from training.data.jsonlines import DataError, Row, check_name, write_rows
from training.data.shapes import SHAPES, Pair, finished_columns
from training.data.sources import Source
from training.noise.strength import MEAN, STD
from training.noise.treatments import GIVEN, TREATED
from training.policy import candidates, labelling
from training.policy.labelling import Judged, Label, Least
from training.score import served
from training.score.outcome import Scorer

CANDIDATES = "candidates"
AGREEMENT = "agreement"
# What may have been said of an old label.
OF_LABEL = {*GIVEN, MEAN, STD, TREATED, AGREEMENT}


class Report(Struct, frozen=True):
    """What became of the file; written beside the pairs. ``swapped`` pairs had been labelled the
    other way."""

    command: str
    scorer: Scorer
    digest: str
    refused_rows: int
    pairs: int
    swapped: int
    left_out: dict[str, int]


@dataclass(frozen=True)
class Question:
    """Responses to one prompt, each with whether it finished by itself, and, of a pair that was
    labelled before, its other columns."""

    prompt: Sequence[Message]
    responses: Sequence[tuple[str, bool]]
    pair: Pair | None = None


@dataclass
class Labelled:
    rows: list[Row] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    swapped: int = 0


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    check_name(options.out, options.file, beside=(".json",))
    digest, questions, refused = read(options.file, options.shape)
    scorer, rewards, members = judge(options, questions)
    least = Least(options.min_gap, options.min_agreement)
    found = labelled(questions, rewards, members, least, scorer)
    if not found.rows:
        raise DataError(f"{options.file}: no pair is left of {dict(found.left_out)}")
    write_rows(options.out, found.rows)
    report = Report(
        command=shlex.join(["plaudit", "label", *argv]),
        scorer=scorer,
        digest=digest,
        refused_rows=refused,
        pairs=len(found.rows),
        swapped=found.swapped,
        left_out=dict(found.left_out),
    )
    text = msgspec.json.format(msgspec.json.encode(report), indent=1)
    write_whole(options.out.with_suffix(".json"), text)
    print(said(options.out, report))
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="plaudit label", description=__doc__)
    found.add_argument("file", type=Path, help="candidates, or pairs to label again (.jsonl)")
    found.add_argument("--url", required=True, help="of the service, http://…")
    found.add_argument("--model", help="of a service that has several")
    found.add_argument("--out", type=Path, required=True, help="the pairs, a .jsonl file")
    found.add_argument(
        "--shape", choices=[CANDIDATES, *SHAPES], default=CANDIDATES,
        help="of the file: several responses to a prompt, or pairs of one shape; %(default)s",
    )  # fmt: skip
    found.add_argument(
        "--min-gap", type=float, default=0.0, metavar="REWARD",
        help="least difference of the two rewards; equal rewards never make a pair",
    )  # fmt: skip
    found.add_argument(
        "--min-agreement", type=float, default=0.0, metavar="SHARE",
        help="least share of an ensemble's members that put the two in this order",
    )  # fmt: skip
    found.add_argument(
        "--truncation", choices=get_args(Truncation), default="error",
        help="what a response over the model's limit gets: no reward, or a cut; %(default)s",
    )  # fmt: skip
    return found


def read(path: Path, shape: str) -> tuple[str, list[Question], int]:
    """The digest of the file, what to ask, and how many rows do not fit their shape."""
    if shape == CANDIDATES:
        file = candidates.load(path)
        print(file.report(), file=sys.stderr)
        asked = [Question(row.prompt, distinct(row.ended())) for row in file.rows]
        return file.digest, asked, len(file.refused)
    [loaded] = sources.load_all(
        [Source.model_validate({"name": path.name, "path": path, "shape": shape})], sys.stderr
    )
    pairs = [Question(p.prompt, ended(p), p) for p in loaded.pairs]
    return loaded.digest, pairs, len(loaded.refused)


def ended(pair: Pair) -> list[tuple[str, bool]]:
    return list(zip((pair.chosen, pair.rejected), pair.finished, strict=True))


def distinct(responses: Sequence[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """The first of equal ones, without the empty ones, which a service has nothing to read of."""
    first = dict(reversed(responses))
    return [
        (text, first[text]) for text in dict.fromkeys(text for text, _ in responses) if text.strip()
    ]


Rewards = list[float | None]


def judge(
    options: argparse.Namespace, questions: Sequence[Question]
) -> tuple[Scorer, Rewards, list[Rewards]]:
    """The reward of every response in order, and by each member of an ensemble. A member's own
    reward is asked of the service, which has its score from the first question."""
    asked = [(list(q.prompt), response) for q in questions for response, _ in q.responses]
    info = served.named(options.url, options.model)
    scorer, outcomes = served.score(options.url, info.name, asked, options.truncation)
    rewards = [one.reward for one in outcomes]
    names = info.members if info.kind == "ensemble" else []
    if options.min_agreement and not names:
        raise DataError(f"--min-agreement is of members, and {info.name} is a single model")
    members = [served.score(options.url, name, asked, options.truncation)[1] for name in names]
    return scorer, rewards, [[one.reward for one in own] for own in members]


def labelled(
    questions: Sequence[Question],
    rewards: Rewards,
    members: Sequence[Rewards],
    least: Least,
    scorer: Scorer,
) -> Labelled:
    found = Labelled()
    for question, judged in zip(questions, by_question(questions, rewards, members), strict=True):
        ask = labelling.best_and_worst if question.pair is None else in_order
        label = ask(judged)
        fault = labelling.fault(label, least)
        if label is None or fault is not None:
            found.left_out[str(fault)] += 1
            continue
        found.rows.append(row_of(question, label, scorer))
        found.swapped += question.pair is not None and label.chosen.text != question.pair.chosen
    return found


def in_order(judged: Sequence[Judged]) -> Label | None:
    first, second = judged
    return labelling.ordered(first, second)


def by_question(
    questions: Sequence[Question], rewards: Rewards, members: Sequence[Rewards]
) -> Iterator[list[Judged]]:
    place = 0
    for question in questions:
        yield [
            Judged(text, rewards[n], tuple(own[n] for own in members), finished)
            for n, (text, finished) in enumerate(question.responses, start=place)
        ]
        place += len(question.responses)


def row_of(question: Question, label: Label, scorer: Scorer) -> Row:
    """In shape ``plaudit``. What was said of an old label goes with it."""
    pair = question.pair
    kept = {} if pair is None else {k: v for k, v in pair.rest.items() if k not in OF_LABEL}
    if pair is not None:
        kept["category"] = pair.category
    row = {
        **kept,  # first: of shape messages they may hold a prompt, which is not the conversation
        "prompt": list(question.prompt),
        "chosen": label.chosen.text,
        "rejected": label.rejected.text,
        **finished_columns(label.chosen.finished, label.rejected.finished),
        "chosen_reward": label.chosen.reward,
        "rejected_reward": label.rejected.reward,
        "scorer": scorer.model,
        "revision": scorer.revision,
    }
    return row if label.agreement is None else row | {AGREEMENT: label.agreement}


def said(out: Path, report: Report) -> str:
    why = "; ".join(f"{count} {reason}" for reason, count in report.left_out.items())
    left = sum(report.left_out.values())
    swapped = f", {report.swapped} of them the other way than before" if report.swapped else ""
    return f"{out}: {report.pairs} pairs{swapped}; {left} left out" + (f": {why}" if why else "")
