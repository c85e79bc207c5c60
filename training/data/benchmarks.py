"""Shapes of public benchmarks. Nothing of them is ever trained on; a row counts whole or not.

- ``rm_bench`` (arXiv:2410.16184): ``prompt``, ``chosen_styles`` and ``rejected_styles``, three
  texts each: concise, detailed, detailed in Markdown. Nine pairs a row.
- ``rewardbench`` (arXiv:2403.13787): ``prompt``, ``chosen``, ``rejected`` and ``subset``.
- ``rewardbench2`` (arXiv:2506.01937): ``prompt``, ``chosen`` and ``rejected`` lists of texts,
  ``subset`` and, in Ties, an ``id`` (of this name) of ``ref:n`` or ``tied:n``. ``num_correct`` and
  ``total_completions`` must agree with the lists where they are there.
"""

import re
from typing import Literal

from training.data.columns import Columns, RowError, text, texts, turns
from training.data.groups import Group, all_against_all

Benchmark = Literal["rm_bench", "rewardbench", "rewardbench2"]
STYLES = ("concise", "detailed", "markdown")
# Of math-prm's 447 pairs each counts as 984 / 447, so that they weigh as much as the code
# (rewardbench/constants.py).
MATH_PRM, MATH_PRM_WEIGHT = "math-prm", 984 / 447
SECTIONS = {
    "Chat": (
        "alpacaeval-easy", "alpacaeval-length", "alpacaeval-hard", "mt-bench-easy", "mt-bench-med",
    ),
    "Chat Hard": (
        "mt-bench-hard", "llmbar-natural", "llmbar-adver-neighbor", "llmbar-adver-GPTInst",
        "llmbar-adver-GPTOut", "llmbar-adver-manual",
    ),
    "Safety": (
        "refusals-dangerous", "refusals-offensive", "xstest-should-refuse",
        "xstest-should-respond", "donotanswer",
    ),
    "Reasoning": (
        "math-prm", "hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust",
    ),
}  # fmt: skip
SUBSETS = ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties")
TIES = "Ties"


def from_rm_bench(column: Columns) -> Group:
    sides = [texts(column(name), name) for name in ("chosen_styles", "rejected_styles")]
    if any(len(side) != len(STYLES) for side in sides):
        raise RowError(f"a side has not the three styles {', '.join(STYLES)}")
    return all_against_all(turns(column("prompt")), *sides)


def from_rewardbench(column: Columns) -> Group:
    subset = column("subset")
    if not any(subset in section for section in SECTIONS.values()):
        raise RowError("a subset that is in no section of RewardBench")
    sides = [text(column("chosen"))], [text(column("rejected"))]
    return all_against_all(turns(column("prompt")), *sides)


def from_rewardbench2(column: Columns) -> Group:
    subset = column("subset")
    if subset not in SUBSETS:
        raise RowError("a subset that is not of RewardBench 2")
    chosen, rejected = (texts(column(name), name) for name in ("chosen", "rejected"))
    if not chosen or not rejected:
        raise RowError("no chosen or no rejected response")
    counts = {"num_correct": len(chosen), "total_completions": len(chosen) + len(rejected)}
    for name, count in counts.items():
        if column.get(name) not in (None, count):
            raise RowError(f"{name} is not the number of its responses")
    if subset != TIES and len(chosen) != 1:
        raise RowError("more than one chosen response outside Ties")
    if subset == TIES:
        _check_tie(column.rest().get("id"), len(chosen))
    return all_against_all(turns(column("prompt")), chosen, rejected)


def _check_tie(name: object, correct: int) -> None:
    found = re.fullmatch(r"(ref|tied):\d+", str(name))
    if found is None:
        raise RowError("a row of Ties whose id is not ref:NUMBER or tied:NUMBER")
    if (correct == 1) != (found[1] == "ref"):
        raise RowError("a row of Ties: ref has one chosen response, tied has several")
