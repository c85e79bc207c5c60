"""Does a policy's own likelihood come to order answers as the rewards do, and is it the ranking?

Candidates are short answers of several models to instructions of AlpacaEval, the rewards a proxy's
behind ``plaudit serve``. SmolLM2-135M-Instruct is tuned with the ranking loss and without it.
Measured on prompts of their own, by the proxy and by gold, which ranks nothing that is trained on.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from msgspec import to_builtins

from plaudit import checkpoint
from training.data.splits import Split
from training.drawing import svg
from training.experiments import judges, unseen
from training.experiments.judges import Judges
from training.experiments.raft import GOLD, PROXY
from training.experiments.result import Result, table
from training.policy import candidates
from training.policy.own_accuracy import Likelihoods, Ordered, ordered
from training.policy.rewards import Service
from training.policy.rrhf import RrhfPlan, RrhfTuning, measure, rrhf
from training.service_process import serving

SPLIT = Split(validation=0, test=0.4)
WITH, WITHOUT = "RRHF", "without the ranking"
WEIGHTS = {WITH: 1.0, WITHOUT: 0.0}
# What the paper's policy reached, as a reward model, is .62; what is to be reached here, and what
# the ranking is to be worth.
REACHED, WORTH = 0.58, 0.02


@dataclass(frozen=True)
class Size:
    """Prompts of both sides, and answers to each."""

    prompts: int
    responses: int
    train_layers: int
    epochs: float
    lr: float


FULL = Size(300, 5, 10, 3, 2e-4)
QUICK = Size(24, 4, 4, 2, 1e-3)

Found = dict[str, dict[str, Ordered]]


def run(data: Path, quick: bool, out: Path) -> Result:
    """Some 180 prompts with 5 answers each, measured on 120 others; ``quick``: some 14 and 10
    with 4, with the ranking alone."""
    size = QUICK if quick else FULL
    made = judges.make(data, out, quick)
    directory = out.resolve() / ("rrhf-quick" if quick else "rrhf")
    directory.mkdir(parents=True, exist_ok=True)
    given = directory / "given.jsonl"
    rows = unseen.answered(data, size.responses, at_least=size.responses)
    candidates.write(given, rows[: size.prompts])
    likelihoods: dict[str, Likelihoods] = {}
    with serving(made.proxy, out / "rrhf-serve.txt") as url:
        for name, weight in list(WEIGHTS.items())[: 1 if quick else None]:
            own = directory / f"weight-{weight:g}"
            plan = plan_of(size, made, given, own, url, weight)
            rrhf(plan)
            likelihoods.setdefault("before", read(plan.out / "likelihood-before.json"))
            likelihoods[name] = read(plan.out / "likelihood-after.json")
    judged = candidates.read(directory / "weight-1" / "scored.jsonl")
    test = [one for one in judged if SPLIT.side(one) == "test"]
    found = {
        PROXY: ordered(test, likelihoods),
        GOLD: ordered(unseen.judged(made.gold, test), likelihoods),
    }
    claims = learns(plan) if quick else reaches(found)
    return result(found, made.accuracies(), claims)


def plan_of(
    size: Size, made: Judges, given: Path, out: Path, url: str, rank_weight: float
) -> RrhfPlan:
    """Rewards of another proxy that were left there are refused."""
    judge = checkpoint.read(made.proxy)[1]
    return RrhfPlan(
        model=str(made.base),
        out=out,
        service=Service(url=url, revision=judge),
        candidates=[given],
        split=SPLIT,
        max_tokens=256,
        rank_weight=rank_weight,
        tuning=RrhfTuning(
            epochs=size.epochs,
            lr=size.lr,
            train_layers=size.train_layers,
            batch_responses=20,
            save_steps=10_000,
            log_to=[],
        ),
    )


def read(path: Path) -> Likelihoods:
    found: Likelihoods = json.loads(path.read_text())
    return found


def result(found: Found, accuracies: Mapping[str, float], claims: Mapping[str, bool]) -> Result:
    return Result(
        tables=[_table(found)],
        figure=_draw(found),
        figures={"judges": dict(accuracies), **to_builtins(found)},
        failures=[claim for claim, held in claims.items() if not held],
    )


def learns(plan: RrhfPlan) -> dict[str, bool]:
    """On what it is tuned on."""
    judged = candidates.read(plan.out / "scored.jsonl")
    rows = [one for one in judged if SPLIT.side(one) == "train"]
    policies = {"before": plan.model, "after": str(plan.out / "policy")}
    likelihoods = {
        name: measure(plan, policy, rows, plan.out / f"train-{name}.json")
        for name, policy in policies.items()
    }
    more = ordered(rows, likelihoods)["after"].less_first
    return {"the policy's own accuracy on pairs that it is tuned on rises": more.value > 0}


def reaches(found: Found) -> dict[str, bool]:
    by = found[PROXY]
    lost = by[WITH].accuracy.value - by[WITHOUT].accuracy.value
    return {
        f"the policy's own pair accuracy rises to {REACHED}": by[WITH].accuracy.value >= REACHED,
        "it rises beyond its interval": by[WITH].less_first.low > 0,
        f"without the ranking at least {WORTH} of it is lost": lost >= WORTH,
    }


def _table(found: Found) -> str:
    rows = [
        [judge, name, f"{one.accuracy:.3f}", f"{one.less_first:+.3f}", f"{one.pairs}"]
        for judge, policies in found.items()
        for name, one in policies.items()
    ]
    return table(["rewards", "policy", "own pair accuracy", "less before", "pairs"], rows)


def _draw(found: Found) -> str:
    def panels(figure: Figure) -> None:
        axes = figure.subplots(1, len(found), sharey=True)
        for axis, (judge, policies) in zip(axes, found.items(), strict=True):
            values = [one.accuracy for one in policies.values()]
            errors = [
                [one.value - one.low for one in values],
                [one.high - one.value for one in values],
            ]
            axis.bar([*policies], [one.value for one in values], yerr=errors, color="C0", alpha=0.6)
            axis.axhline(0.5, color="k", linewidth=0.8)
            axis.set(title=f"rewards: {judge}", ylim=(0.3, 0.8))
        axes[0].set(ylabel="own pair accuracy, held out")

    return svg(panels, width=7)
