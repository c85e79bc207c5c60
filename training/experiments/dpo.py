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
from training.data.splits import Name, Split
from training.evaluate.accuracy import Array, Estimate, accuracies
from training.experiments import judges
from training.experiments.judges import Judges
from training.experiments.own_answers import HELD_OUT, answers, prompt_file
from training.experiments.result import Result, table
from training.policy import curves, label, likelihood, prompts, tuning
from training.policy.chat import Chat
from training.policy.prefer import SHOWN, PreferSettings, prefer
from training.policy.prompts import Prompt, PromptFile
from training.policy.sampling import Sampling
from training.precision import measuring_dtype
from training.service_process import serving

# More prompts than the judges' own validation side has: a judge may have learnt from other answers
# to a held-out prompt, as it has from those to the prompts that are tuned on.
SPLIT = Split(validation=0.3, test=0)
PROMPT_TOKENS = 96
# Who has labelled pairs, and of which side.
TRAIN, PROXY, GOLD = "proxy-train", "proxy-held-out", "gold-held-out"


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


FULL = Size(700, 450, 4, 40, 2, 8, 1e-4)
QUICK = Size(12, 8, 4, 12, 4, 4, 3e-4)


def run(data: Path, quick: bool, out: Path) -> Result:
    """Some hundred pairs; ``quick``: a dozen of a few words."""
    size = QUICK if quick else FULL
    found = judges.make(data, out, quick)
    directory = out / ("dpo-quick" if quick else "dpo")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    pairs = labelled(size, found, data, directory)
    config = tune(found.base, size, pairs, directory)
    measured = measure(config, pairs)
    history = json.loads((config.out / "curves.json").read_text())
    return Result(
        tables=[_table(measured, pairs)],
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


def labelled(size: Size, found: Judges, data: Path, directory: Path) -> dict[str, Path]:
    """By judge and side, the first policy's own answers in pairs, by a real service."""
    asked = both_sides(found.base, size, prompt_file(data, directory))
    how = Sampling(responses=size.responses, max_new_tokens=size.new_tokens)
    for side, some in asked.items():
        answers({side: found.base}, some, how, directory)
    wanted = {found.proxy: [TRAIN, PROXY], found.gold: [GOLD]}
    for judge, names in wanted.items():
        with serving(judge, directory / "service.log", "--dtype", measuring_dtype()) as url:
            for name in names:
                side = "train" if name == TRAIN else HELD_OUT
                out = ["--url", url, "--out", str(directory / f"{name}.jsonl")]
                label.main([str(directory / f"{side}.jsonl"), *out, "--truncation", "left"])
    return {name: directory / f"{name}.jsonl" for names in wanted.values() for name in names}


def both_sides(base: Path, size: Size, path: Path) -> dict[Name, list[Prompt]]:
    chat = Chat.load(str(base))
    every = prompts.load(path)
    counts: dict[Name, int] = {"train": size.prompts, HELD_OUT: size.held_out}
    return {
        side: prompts.choose(
            prompts.on_side(every, SPLIT, side),
            PromptFile(path=path, max_tokens=PROMPT_TOKENS, max_prompts=count),
            lambda one: len(chat.prompt(one.turns)),
        )
        for side, count in counts.items()
    }


def tune(base: Path, size: Size, pairs: Mapping[str, Path], directory: Path) -> PreferSettings:
    config = PreferSettings(
        model=str(base),
        out=directory / "run",
        sources=[Source(name=name, path=pairs[name]) for name in (TRAIN, PROXY)],
        split=SPLIT,
        loss="dpo",
        epochs=size.epochs,
        train_layers=size.train_layers,
        lr=size.lr,
        batch_responses=16,
        eval_steps=25,
        save_steps=10_000,
        log_to=[],
    )
    prefer(config)
    return config


def measure(config: PreferSettings, pairs: Mapping[str, Path]) -> dict[str, Estimate]:
    """By label, how often the tuned policy has raised the chosen response above the rejected one,
    against the first policy. That prefers nothing: one half."""
    policies = [config.model, str(config.out / tuning.POLICY)]
    return {name: accuracy(policies, read(path)) for name, path in pairs.items()}


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
        (chat.prompt(pair.prompt), chat.response(pair.prompt, *response))
        for pair in pairs
        for response in label.ended(pair)
    ]
    means = likelihood.of_all(likelihood.load(policy, chat), asked, max_tokens=4096)
    sums = [mean * len(response) for mean, (_, response) in zip(means, asked, strict=True)]
    return np.array(sums).reshape(-1, 2)


def read(path: Path) -> list[Pair]:
    return sources.load(Source(name="pairs", path=path)).pairs


def claims(measured: Mapping[str, Estimate], quick: bool) -> dict[str, bool]:
    shown = [TRAIN] if quick else [TRAIN, PROXY]
    return {
        f"the accuracy on pairs of {name} rises above one half": measured[name].low > 0.5
        for name in shown
    }


def _table(measured: Mapping[str, Estimate], pairs: Mapping[str, Path]) -> str:
    rows = []
    for name, estimate in measured.items():
        found = read(pairs[name])
        finished = np.mean([one.finished for one in found])
        rows.append([name, f"{len(found)}", f"{finished:.2f}", "0.500", f"{estimate:.3f}"])
    return table(["labelled by, side", "pairs", "finished", "before", "after DPO"], rows)
