"""Tiny real models: two layers, width 32, random weights from a seed, saved as real checkpoints."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch
from tiny_llama import reward_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForSequenceClassification, PreTrainedTokenizerFast

from plaudit import checkpoint
from plaudit.calibration import Calibration
from plaudit.checkpoint import Base, Manifest
from plaudit.probes import make
from plaudit.reward_model import RewardModel
from training import service_process

# Processes that run tests beside each other have ports of their own: one that was drawn is free
# until its server listens, seconds later.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
service_process.PORTS = service_process.PORTS[WORKER::8]

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile("plaudit", deadline=None)
hypothesis.settings.load_profile("plaudit")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos", "faults and load (tests/chaos)")
    group.addoption("--long", action="store_true", help="the long forms, as make chaos runs them")
    group.addoption("--seed", type=int, default=0, help="of all that is drawn by chance there")
    group.addoption("--figures", help="file to which what was counted is appended, JSON lines")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """At the end, for ``-q`` leaves headers out."""
    form = "long" if config.getoption("long") else "bounded"
    terminalreporter.write_line(f"chaos: seed {config.getoption('seed')}, {form} forms")


# Files that take minutes. First, so that at the end no process is left alone with one of them.
LONGEST = (
    "training/experiments/test_quick.py",
    "training/test_processes.py",
    "chaos/test_restart.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not item.path.as_posix().endswith(LONGEST))


CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>{% if not loop.last %}\n{% endif %}{% endfor %}"
)
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """Bytes as tokens, three specials, a ChatML template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    backend = Tokenizer(models.BPE(vocab, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<|pad|>",
        eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
    )


def _save_plain(
    directory: Path, tokenizer: PreTrainedTokenizerFast, seed: int, **changes: object
) -> Path:
    """A reward model as any other tool would save it: no reward.json."""
    reward_model(len(tokenizer), seed, **changes).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def complete(directory: Path, max_tokens: int = 512, **changes: object) -> Path:
    """Turn a plain directory into a full checkpoint."""
    model = RewardModel.load(directory, max_tokens=max_tokens)
    manifest = Manifest(
        kind="single",
        base=Base("tiny", "sha256:base"),
        head_init="sha256:head",
        digests=checkpoint.digests(directory),
        max_tokens=max_tokens,
        dtype="float32",
        calibration=Calibration("standardise", mean=0.5, std=2.0),
        probes=make(model),
    )
    checkpoint.write(directory, manifest.__class__(**{**_fields(manifest), **changes}))
    return directory


def _fields(manifest: Manifest) -> dict[str, object]:
    return {name: getattr(manifest, name) for name in manifest.__struct_fields__}


@pytest.fixture(scope="session")
def members(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> list[Path]:
    """Three full checkpoints of one made-up ensemble. Read only: copy before changing."""
    root = tmp_path_factory.mktemp("members")
    return [complete(_save_plain(root / f"m{i}", tokenizer, seed=i)) for i in range(3)]


@pytest.fixture(scope="session")
def tiny_checkpoint(members: list[Path]) -> Path:
    return members[0]


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    """60 pairs in the plaudit shape: 30 prompts, two pairs each; good answers say why."""
    path = tmp_path / "pairs.jsonl"
    rows = [
        {
            "prompt": [{"role": "user", "content": f"Question number {i // 2}?"}],
            "chosen": f"Answer {i} because it is so.",
            "rejected": f"No {i}." + " Or so." * (i % 3),
            "category": "even" if i % 2 == 0 else "odd",
        }
        for i in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def save_plain() -> Callable[..., Path]:
    """``save_plain(directory, tokenizer, seed)``: a reward model without reward.json."""
    return _save_plain


@pytest.fixture(scope="session")
def make_complete() -> Callable[..., Path]:
    """``make_complete(directory)``: a plain reward model turned into a full checkpoint."""
    return complete


@pytest.fixture(scope="session")
def retrained_top() -> Callable[[Path, Path], Path]:
    """``retrained_top(directory, of)``: a full checkpoint that shares all but its top block."""

    def make(directory: Path, of: Path) -> Path:
        model = AutoModelForSequenceClassification.from_pretrained(of)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for weight in model.base_model.layers[-1].parameters():
                weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.1)
        shutil.copytree(of, directory)
        (directory / "reward.json").unlink()
        model.save_pretrained(directory)
        return complete(directory)

    return make
