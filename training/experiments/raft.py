"""Does a second judge, which RAFT never asks, find the policy's answers better round after round?

SmolLM2-135M-Instruct is tuned on the best of its own answers by a proxy behind ``plaudit serve``;
gold is another reward model, of other prompts, order and head. Beside it the offline form: what
keeping the best of K given answers by the proxy is worth to the proxy and to gold.

Letters: K responses of a prompt, S numbers of draws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from msgspec import to_builtins

from plaudit import checkpoint
from training.data.splits import Split
from training.drawing import svg
from training.evaluate.accuracy import Array, Estimate, accuracies
from training.evaluate.best_of_n import picked
from training.experiments import judges, unseen
from training.experiments.judges import Judges
from training.experiments.result import Result, table
from training.policy import candidates, held_out, likelihood, versus
from training.policy.candidates import Candidates
from training.policy.chat import Chat
from training.policy.held_out import Answers
from training.policy.prompts import PromptFile
from training.policy.raft import HeldOut, RaftPlan, RaftTuning, raft
from training.policy.raft_report import curve
from training.policy.rewards import Service
from training.policy.sampling import Sampling
from training.service_process import serving

SPLIT = Split(validation=0, test=0.3)
PROXY, GOLD, CONTROLLED = "proxy", "gold", "gold, without length"


@dataclass(frozen=True)
class Size:
    """Of the rounds, and the largest K of the offline form over so many prompts."""

    rounds: int
    prompts: int
    responses: int
    new_tokens: int
    top_p: float
    held_out: HeldOut
    epochs: float
    lr: float
    train_layers: int | None
    given: int
    draws: tuple[int, ...]


FULL = Size(3, 240, 8, 48, 0.9, HeldOut(prompts=150, responses=2), 2, 3e-4, 8, 48, (1, 2, 4, 8, 16))
QUICK = Size(1, 8, 4, 16, 0.9, HeldOut(prompts=6, responses=2), 4, 1e-3, 4, 6, (1, 2, 4))


def run(data: Path, quick: bool, out: Path) -> Result:
    """Three rounds of 240 prompts with 8 answers each; ``quick``: one of 8 with 4."""
    size = QUICK if quick else FULL
    made = judges.make(data, out, quick)
    directory = out.resolve() / ("raft-quick" if quick else "raft")
    answered = unseen.answered(data, max(size.draws), at_least=1)
    prompts = out.resolve() / "instructions.jsonl"
    unseen.write_prompts(answered, prompts)
    with serving(made.proxy, out / "raft-serve.txt") as url:
        raft(plan_of(size, made, prompts, directory, url))
    enough = [one for one in answered if len(one.responses) == max(size.draws)]
    policies, given = judged(size, directory, made, enough[: size.given])
    offline = kept_of_given(given, size.draws)
    claims = learns(made.base, directory) if quick else proves(policies) | keeps_better(offline)
    return result(policies, offline, made.accuracies(), size.draws, claims)


def plan_of(size: Size, made: Judges, prompts: Path, out: Path, url: str) -> RaftPlan:
    """Rewards of another proxy that were left there are refused."""
    judge = checkpoint.read(made.proxy)[1]
    return RaftPlan(
        model=str(made.base),
        out=out,
        service=Service(url=url, revision=judge),
        prompts=PromptFile(path=prompts, max_tokens=96),
        split=SPLIT,
        rounds=size.rounds,
        prompts_per_round=size.prompts,
        sampling=Sampling(
            responses=size.responses, max_new_tokens=size.new_tokens, top_p=size.top_p
        ),
        tuning=RaftTuning(
            epochs=size.epochs,
            lr=size.lr,
            train_layers=size.train_layers,
            batch_responses=4,
            save_steps=10_000,
            log_to=[],
        ),
        held_out=size.held_out,
    )


def judged(
    size: Size, out: Path, made: Judges, given: Sequence[Candidates]
) -> tuple[dict[str, dict[str, Answers]], dict[str, list[Candidates]]]:
    """By judge, how the policies answer the held-out prompts after each round; and given answers
    with their rewards."""
    files = {
        str(number): candidates.read(out / "held-out" / f"policy-{number}.jsonl")
        for number in range(size.rounds + 1)
    }
    gold = unseen.judged_files(made.gold, {**files, "given": list(given)})
    both = {PROXY: unseen.judged(made.proxy, given), GOLD: gold.pop("given")}
    policies = {
        PROXY: held_out.compare(files),
        GOLD: held_out.compare(gold),
        CONTROLLED: held_out.compare(versus.without_length(gold)),
    }
    return policies, both


def kept_of_given(
    judged: Mapping[str, Sequence[Candidates]], draws: Sequence[int]
) -> dict[str, list[Estimate]]:
    """By judge, the mean reward of what the proxy keeps of K answers drawn from those given."""
    proxy, gold = ([rewards(one) for one in judged[judge]] for judge in (PROXY, GOLD))
    n = np.array(draws)
    chances = [picked(one, np.full(len(one), 1 / len(one)), n) for one in proxy]
    prompts = [one.first_turn for one in judged[PROXY]]
    return {
        name: accuracies(np.stack([p @ r for p, r in zip(chances, values, strict=True)]), prompts)
        for name, values in ((PROXY, proxy), (GOLD, gold))
    }


def rewards(one: Candidates) -> Array:
    """(K,): no answer is long enough for a judge to refuse it."""
    return np.array([reward for _, reward in one.known()])


def result(
    policies: dict[str, dict[str, Answers]],
    offline: dict[str, list[Estimate]],
    accuracies: dict[str, float],
    draws: Sequence[int],
    claims: Mapping[str, bool],
) -> Result:
    return Result(
        tables=[_rounds(policies), _kept(offline, draws)],
        figure=_draw(policies, offline, draws),
        figures={
            "judges": accuracies,
            "rounds": to_builtins(policies),
            "kept": {"draws": draws, **to_builtins(offline)},
        },
        failures=[claim for claim, held in claims.items() if not held],
    )


def learns(base: Path, out: Path) -> dict[str, bool]:
    """Of the first round, on what it is tuned on: a few answers, whose likelihood rises far."""
    kept = candidates.read(out / "round-1" / "kept.jsonl")
    before, after = (likelihood_of(policy, kept) for policy in (base, out / "round-1" / "policy"))
    return {"the policy finds the kept answers likelier": after > before}


def likelihood_of(policy: Path, rows: Sequence[Candidates]) -> float:
    """Mean log-probability of a token, over responses."""
    chat = Chat.load(str(policy))
    asked = [
        (chat.prompt(one.prompt), chat.response(one.prompt, *response))
        for one in rows
        for response in one.ended()
    ]
    return float(np.mean(likelihood.of_all(likelihood.load(str(policy), chat), asked, 4096)))


def proves(policies: Mapping[str, Mapping[str, Answers]]) -> dict[str, bool]:
    last = {judge: [*one.values()][-1].less_first for judge, one in policies.items()}
    return {
        "the held-out reward by the proxy rises": last[PROXY].value > 0,
        "the held-out reward by gold rises, beyond its interval": last[GOLD].low > 0,
        "it rises with what length explains taken off": last[CONTROLLED].value > 0,
    }


def keeps_better(offline: Mapping[str, Sequence[Estimate]]) -> dict[str, bool]:
    """The proxy's own reward of what it keeps can only rise."""
    gains = {judge: found[-1].value - found[0].value for judge, found in offline.items()}
    return {
        "the kept answers' gold reward rises with K": gains[GOLD] > 0,
        "it rises by less than the proxy's": gains[GOLD] < gains[PROXY],
    }


def _rounds(policies: Mapping[str, Mapping[str, Answers]]) -> str:
    rows = [
        [
            number,
            *(f"{policies[judge][number].reward.value:+.3f}" for judge in policies),
            *(f"{policies[judge][number].less_first:+.3f}" for judge in policies),
            f"{one.characters:.0f}",
            f"{one.finished:.2f}",
        ]
        for number, one in policies[GOLD].items()
    ]
    header = ["round", *policies, *(f"{judge}, less round 0" for judge in policies)]
    return table([*header, "characters", "finished"], rows)


def _kept(offline: Mapping[str, Sequence[Estimate]], draws: Sequence[int]) -> str:
    rows = [[judge, *(f"{one:+.3f}" for one in found)] for judge, found in offline.items()]
    return table(["best of K by the proxy", *(f"K = {k}" for k in draws)], rows)


def _draw(
    policies: Mapping[str, Mapping[str, Answers]],
    offline: Mapping[str, Sequence[Estimate]],
    draws: Sequence[int],
) -> str:
    def panels(figure: Figure) -> None:
        left, middle, right = figure.subplots(1, 3)
        known = {
            judge: [one.less_first for one in found.values()] for judge, found in policies.items()
        }
        curve(left, known)
        left.set(ylabel="held-out reward, less round 0")
        middle.plot([one.characters for one in policies[GOLD].values()], marker="o")
        middle.set(xlabel="round", ylabel="characters of a response", ylim=(0, None))
        _offline(right, offline, draws)

    return svg(panels, width=9.5)


def _offline(axis: Axes, offline: Mapping[str, Sequence[Estimate]], draws: Sequence[int]) -> None:
    for number, (judge, found) in enumerate(offline.items()):
        axis.plot(draws, [one.value for one in found], marker="o", color=f"C{number}", label=judge)
    axis.set(xlabel="K given answers, best kept", ylabel="reward", xscale="log")
    axis.legend(frameon=False)
