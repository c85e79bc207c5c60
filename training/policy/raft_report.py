"""What the rounds of a RAFT run came to: a table, a drawing, and their figures."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import Struct

from training.drawing import svg
from training.evaluate.accuracy import Estimate
from training.policy import candidates, held_out
from training.policy.candidates import Candidates
from training.policy.held_out import Answers


class Round(Struct, frozen=True):
    """Mean rewards of all that was scored and of what was kept, and how much that is."""

    sampled: float
    kept: float
    responses: int
    kept_responses: int


class Report(Struct, frozen=True):
    """``policies``: the first, then what each round left, on the held-out prompts; empty where none
    were."""

    rounds: list[Round]
    policies: dict[str, Answers]


def write(out: Path, rounds: int, measured: bool) -> None:
    """``rounds.json``, ``.md`` and, of held-out prompts, ``.svg``; prints the table."""
    found = read(out, rounds, measured)
    (out / "rounds.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    (out / "rounds.md").write_text(text := table(found))
    if found.policies:
        (out / "rounds.svg").write_text(draw(found))
    print(text, end="")


def read(out: Path, rounds: int, measured: bool) -> Report:
    directories = [out / f"round-{number}" for number in range(1, rounds + 1)]
    policies = {
        str(number): candidates.read(out / "held-out" / f"policy-{number}.jsonl")
        for number in range(rounds + 1)
        if measured
    }
    return Report(
        [round_of(directory) for directory in directories],
        held_out.compare(policies) if policies else {},
    )


def round_of(directory: Path) -> Round:
    files = [candidates.read(directory / f"{name}.jsonl") for name in ("scored", "kept")]
    (sampled, kept), (all_of_them, some) = zip(*map(mean, files), strict=True)
    return Round(sampled, kept, all_of_them, some)


def mean(rows: Sequence[Candidates]) -> tuple[float, int]:
    known = [reward for one in rows for _, reward in one.known()]
    return float(np.mean(known)), len(known)


def table(found: Report) -> str:
    """A row a round; what was sampled in a round is of the policy before it."""
    lines = [
        "| round | sampled | kept | held-out reward | less round 0 | characters | finished |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for number in range(len(found.rounds) + 1):
        one = found.rounds[number - 1] if number else None
        own = found.policies.get(str(number))
        cells = ["", ""] if one is None else [f"{one.sampled:+.3f}", f"{one.kept:+.3f}"]
        cells += ["", "", "", ""] if own is None else answers(own)
        lines.append(f"| {' | '.join([str(number), *cells])} |")
    return "\n".join(lines) + "\n"


def answers(own: Answers) -> list[str]:
    return [
        f"{own.reward:+.3f}",
        f"{own.less_first:+.3f}",
        f"{own.characters:.0f}",
        f"{own.finished:.2f}",
    ]


def draw(found: Report) -> str:
    """The held-out reward with its interval, and beside it the length."""

    def panels(figure: Figure) -> None:
        left, right = figure.subplots(1, 2)
        curve(left, {"held-out reward": [one.reward for one in found.policies.values()]})
        right.plot([one.characters for one in found.policies.values()], marker="o", color="C1")
        right.set(xlabel="round", ylabel="characters of a response", ylim=(0, None))

    return svg(panels, width=7)


def curve(axis: Axes, series: Mapping[str, Sequence[Estimate]]) -> None:
    """Estimates by round, with their intervals."""
    for number, (name, found) in enumerate(series.items()):
        values = np.array([(one.value, one.low, one.high) for one in found])
        axis.plot(values[:, 0], marker="o", color=f"C{number}", label=name)
        places = range(len(values))
        axis.fill_between(places, values[:, 1], values[:, 2], color=f"C{number}", alpha=0.15)
    axis.set(xlabel="round")
    axis.legend(frameon=False)
