"""Does DPO on pairs that the service has labelled make a policy prefer as a judge does?

SmolLM2-135M-Instruct answers prompts of RMB several times, ``plaudit label`` makes pairs of the
best and the worst by a ``plaudit serve`` process of the proxy, and DPO tunes on those of the train
side. The held-out pairs are labelled by the proxy, and once more by gold.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.data import sources
from training.data.shapes import Pair
from training.data.sources import Source
from training.evaluate.accuracy import Array, Estimate, accuracies
from training.experiments import judges
from training.experiments.judges import Judges
from training.experiments.lmc import BASE
from training.experiments.own_answers import HELD_OUT, SPLIT, answers, prompt_file
from training.experiments.result import Result, cell, table
from training.experiments.serving import serving
from training.policy import curves, label, likelihood, prompts, tuning
from training.policy.chat import Chat
from training.policy.prefer import SHOWN, PreferSettings, prefer
from training.policy.prompts import Prompt, PromptFile
from training.policy.sampling import Sampling
from training.precision import measuring_dtype

PROMPT_TOKENS = 48


@dataclass(frozen=True)
class Size:
    """Prompts of either side, answers to each, and the tuning on the pairs of the first."""

    prompts: int
    held_out: int
    responses: int
    new_tokens: int
    epochs: float
    train_layers: int
    lr: float


FULL = Size(300, 120, 6, 48, 3, 8, 5e-5)
QUICK = Size(24, 16, 4, 12, 8, 4, 3e-4)


def run(data: Path, quick: bool, out: Path) -> Result:
    """Some hundred pairs; ``quick``: two dozen of a few words, on which the tuned policy is asked
    for its preferences too."""
    size = QUICK if quick else FULL
    found = judges.make(data, out, quick)
    directory = out / ("dpo-quick" if quick else "dpo")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    pairs = {
        name: labelled(size, judge, name, data, directory) for name, judge in vars(found).items()
    }
    config = tune(size, pairs["proxy"], directory)
    measured = measure(config, pairs)
    history = json.loads((config.out / "curves.json").read_text())
    return Result(
        tables=[_table(measured, found)],
        figure=curves.draw(history, SHOWN),
        figures={
            "size": vars(size),
            "judges": found.accuracies(),
            "pairs": {name: len(read(path)) for name, path in pairs.items()},
            "accuracy": {name: [one.value, one.low, one.high] for name, one in measured.items()},
            "history": history,
        },
        failures=[claim for claim, held in claims(measured, quick).items() if not held],
    )


def labelled(size: Size, judge: Path, name: str, data: Path, directory: Path) -> Path:
    """The first policy's own answers, in pairs by a real service of the judge."""
    asked = both_sides(size, prompt_file(data, directory))
    how = Sampling(responses=size.responses, max_new_tokens=size.new_tokens)
    answers({"answers": BASE}, asked, how, directory)
    pairs = directory / f"{name}.jsonl"
    with serving(judge, directory / "service.log", "--dtype", measuring_dtype()) as url:
        file = str(directory / "answers.jsonl")
        label.main([file, "--url", url, "--out", str(pairs), "--truncation", "left"])
    return pairs


def both_sides(size: Size, path: Path) -> list[Prompt]:
    chat = Chat.load(str(BASE))
    every = prompts.load(path)

    def of(side: str, count: int) -> list[Prompt]:
        file = PromptFile(path=path, max_tokens=PROMPT_TOKENS, max_prompts=count)
        mine = [one for one in every if SPLIT.side(one) == side]
        return prompts.choose(mine, file, lambda one: len(chat.prompt(one.turns)))

    return of("train", size.prompts) + of(HELD_OUT, size.held_out)


def tune(size: Size, pairs: Path, directory: Path) -> PreferSettings:
    config = PreferSettings(
        model=str(BASE),
        out=directory / "run",
        sources=[Source(name="proxy", path=pairs)],
        split=SPLIT,
        loss="dpo",
        epochs=size.epochs,
        train_layers=size.train_layers,
        lr=size.lr,
        batch_responses=16,
        eval_steps=10,
        save_steps=10_000,
        log_to=[],
    )
    prefer(config)
    return config


def measure(config: PreferSettings, pairs: Mapping[str, Path]) -> dict[str, Estimate]:
    """By label, how often the tuned policy has raised the chosen response above the rejected one,
    against the first policy. That prefers nothing: one half."""
    found = {
        f"{name}, {side}": [one for one in read(path) if SPLIT.side(one) == side]
        for name, path in pairs.items()
        for side in ("train", HELD_OUT)
    }
    policies = [str(BASE), str(config.out / tuning.POLICY)]
    return {name: accuracy(policies, chosen) for name, chosen in found.items() if chosen}


def accuracy(policies: Sequence[str], pairs: Sequence[Pair]) -> Estimate:
    """Of the implicit rewards: the second policy's log-probabilities less the first's."""
    before, after = (log_probabilities(policy, pairs) for policy in policies)
    ratios = after - before
    right = (ratios[:, 0] > ratios[:, 1]).astype(float)
    return accuracies(right[:, None], [pair.first_turn for pair in pairs])[0]


def log_probabilities(policy: str, pairs: Sequence[Pair]) -> Array:
    """(P, 2): of the chosen and the rejected responses, summed over their tokens."""
    chat = Chat.load(policy)
    asked = [
        (chat.prompt(pair.prompt), chat.response(pair.prompt, text))
        for pair in pairs
        for text in (pair.chosen, pair.rejected)
    ]
    means = likelihood.of_all(likelihood.load(policy, chat), asked, max_tokens=4096)
    sums = [mean * len(response) for mean, (_, response) in zip(means, asked, strict=True)]
    return np.array(sums).reshape(-1, 2)


def read(path: Path) -> list[Pair]:
    return sources.load(Source(name="pairs", path=path)).pairs


def claims(measured: Mapping[str, Estimate], quick: bool) -> dict[str, bool]:
    shown = ["proxy, train"] if quick else ["proxy, train", f"proxy, {HELD_OUT}"]
    return {
        f"the accuracy on pairs of {name} rises above one half": measured[name].low > 0.5
        for name in shown
    }


def _table(measured: Mapping[str, Estimate], found: Judges) -> str:
    right = found.accuracies()
    rows = [
        [name, f"{right[name.split(',')[0]]:.3f}", "0.500", cell(one)]
        for name, one in measured.items()
    ]
    return table(["pairs labelled by, side", "judge right on RMB", "before", "after DPO"], rows)
