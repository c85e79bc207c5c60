"""A tiny base, easy pairs, and settings that train on them in a second."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_llama import save_language_model
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from training import ensemble
from training.data.sources import Source
from training.data.splits import Split
from training.settings import EnsemblePlan, MemberSettings, TrainSettings

# Both held-out sides of 40 made-up prompts have pairs.
SPLIT = Split(validation=0.3, test=0.2)
# Its thread may warn of bars that last long, and a warning fails a test.
tqdm.monitor_interval = 0


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast) -> Path:
    """A causal language model of three layers with its tokenizer: no reward head."""
    directory = tmp_path_factory.mktemp("base")
    changes = {"num_hidden_layers": 3, "max_position_embeddings": 256, "initializer_range": 0.1}
    save_language_model(directory, tokenizer, seed=7, **changes)
    return directory


@pytest.fixture(scope="session")
def easy_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 pairs on 40 prompts: the chosen response ends with a reason, the rejected does not."""
    path = tmp_path_factory.mktemp("pairs") / "easy.jsonl"
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Question number {i // 2}?"}],
            "chosen": f"Answer {i} because it is so.",
            "rejected": f"Answer {i} is yes or no!!",
        }
        for i in range(80)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def configure(tiny_base: Path, easy_pairs: Path) -> Callable[..., TrainSettings]:
    """``configure(out, **changes)``: settings of a short fp32 training."""

    def _configure(
        out: Path, kind: type[TrainSettings] = TrainSettings, **changes: object
    ) -> TrainSettings:
        values: dict[str, object] = {
            "model": str(tiny_base),
            "out": out,
            "sources": [Source(name="easy", path=easy_pairs)],
            "split": SPLIT,
            "max_tokens": 128,
            "epochs": 4,
            "lr": 3e-3,
            "batch_pairs": 8,
            "precision": "fp32",
            "save_dtype": "float32",
            "save_steps": 4,
            "logging_steps": 1,
            "log_to": [],
        }
        return kind(**(values | changes))

    return _configure


@pytest.fixture(scope="session")
def ensemble_plan(
    tmp_path_factory: pytest.TempPathFactory, configure: Callable[..., TrainSettings]
) -> EnsemblePlan:
    """Three trained members of one base and one head. Read only: copy before changing."""
    plan = configure(
        tmp_path_factory.mktemp("ensemble"),
        EnsemblePlan,
        epochs=1,
        members=[
            MemberSettings(seed=seed, lr=lr, dropout=dropout)
            for seed, lr, dropout in ((1, 3e-3, 0.0), (2, 2e-3, 0.1), (3, 1e-3, 0.2))
        ],
    )
    assert isinstance(plan, EnsemblePlan)
    ensemble.run(plan)
    return plan


@pytest.fixture(scope="session")
def trained_members(ensemble_plan: EnsemblePlan) -> list[Path]:
    return [ensemble_plan.member(i).out for i in range(len(ensemble_plan.members))]
