"""Two reward models that know nothing of each other: the proxy that is optimised, and gold.

Both are SmolLM2-135M under a frozen trunk, trained by ``plaudit train`` on short pairs. The proxy
sees one half of RMB's prompts; gold sees the other half and conversations of HH, in an order and
with a head of its own. Made once for all experiments of one ``--out``.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plaudit import checkpoint
from plaudit.checkpoint import sha256
from training.data.shapes import Pair
from training.data.sources import Source
from training.data.splits import Fold, Split
from training.experiments import smollm2
from training.experiments.datasets import read, write_short
from training.settings import TrainSettings
from training.shared_files import alone
from training.train import train

# Of prompts with their responses; a judge is asked about no longer ones.
MAX_TOKENS = 512


@dataclass(frozen=True)
class Size:
    """Pairs of either judge of RMB, and of gold of HH, at most ``tokens`` long."""

    rmb: int
    hh: int
    tokens: int
    train_layers: int
    epochs: float
    lr: float
    validation: int


FULL = Size(1200, 300, 160, 8, 2, 2e-4, 200)
QUICK = Size(120, 30, 96, 2, 2, 1e-3, 30)


@dataclass(frozen=True)
class Judges:
    """Directories of the checkpoints, and of the base of both, which is the first policy too."""

    base: Path
    proxy: Path
    gold: Path

    def both(self) -> dict[str, Path]:
        return {"proxy": self.proxy, "gold": self.gold}

    def accuracies(self) -> dict[str, float]:
        """On validation pairs that they share."""
        return {
            name: float(checkpoint.read(path)[0].training["validation_accuracy"])
            for name, path in self.both().items()
        }


def make(data: Path, out: Path, quick: bool) -> Judges:
    """Under ``OUT/judges``, by the digest of their settings: those there, or trained now."""
    base = smollm2.base(out, quick)
    size = QUICK if quick else FULL
    directory = out.resolve() / "judges"
    directory.mkdir(parents=True, exist_ok=True)
    with alone(directory / "made"):
        rmb = short(read(data, "rmb_pairs", "plaudit"), size, directory / f"rmb-{size.tokens}")
        hh = short(read(data, "hh_helpful", "plaudit"), size, directory / f"hh-{size.tokens}")
        rmb_alone = [rmb_source(rmb, size)]
        proxy = trained(settings(base, size, rmb_alone, directory, held_out=0, seed=0))
        both = [rmb_source(rmb, size), Source(name="hh", path=hh, side="train", max_pairs=size.hh)]
        gold = trained(settings(base, size, both, directory, held_out=1, seed=1))
    return Judges(base, proxy, gold)


def short(pairs: Sequence[Pair], size: Size, stem: Path) -> Path:
    path = stem.with_suffix(".jsonl")
    if not path.exists():
        write_short(pairs, size.tokens, path)
    return path


def rmb_source(path: Path, size: Size) -> Source:
    return Source(name="rmb", path=path, max_pairs=size.rmb)


def settings(
    base: Path, size: Size, sources: Sequence[Source], directory: Path, held_out: int, seed: int
) -> TrainSettings:
    """Of one judge, in a directory named after all that decides it."""
    found = TrainSettings(
        model=str(base),
        out=directory,
        sources=list(sources),
        split=Split(validation=0.1, test=0, fold=Fold(count=2, held_out=held_out)),
        max_tokens=MAX_TOKENS,
        train_max_tokens=size.tokens,
        validation_pairs=size.validation,
        train_layers=size.train_layers,
        epochs=size.epochs,
        lr=size.lr,
        batch_pairs=8,
        seed=seed,
        head_seed=seed,
        save_steps=10_000,
        log_to=[],
    )
    decisive = json.dumps(found.model_dump(mode="json"), sort_keys=True)
    own = directory / sha256(decisive.encode()).removeprefix("sha256:")[:12]
    return found.model_copy(update={"out": own, "trunk_cache": own.with_suffix(".trunk")})


def trained(config: TrainSettings) -> Path:
    """Trained now, or from where an experiment was broken off before."""
    if not checkpoint.is_complete(config.out):
        train(config, resume=True)
    assert config.trunk_cache is not None
    config.trunk_cache.unlink(missing_ok=True)
    return config.out
