"""What short trainings leave behind, how they are broken off, and how two processes are started."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.optim.optimizer import register_optimizer_step_pre_hook

from plaudit import checkpoint
from training.service_process import free_port
from training.settings import TrainSettings
from training.train import last_state

ROOT = Path(__file__).parents[2]

# What accelerate launch --multi_gpu starts; by itself it starts one process on a CPU.
LAUNCH = [
    *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"),
    *("--rdzv-backend", "c10d", "--rdzv-endpoint", "127.0.0.1:0", "--module", "plaudit.cli"),
]


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return load_file(directory / "model.safetensors")


def same(a: Path, b: Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def history(config: TrainSettings) -> list[dict[str, float]]:
    """What was logged, step by step, over a run and its resumptions."""
    (last,) = (config.out / "trainer").glob("checkpoint-*")
    state = json.loads((last / "trainer_state.json").read_text())
    return [entry for entry in state["log_history"] if "loss" in entry]


def interrupted_after_first_state(out: Path) -> AbstractContextManager[None]:
    """Ctrl-C at the first step after a resumable state is on disk."""
    return interrupted_after_state(out, 1)


@contextmanager
def interrupted_after_state(out: Path, steps: int) -> Iterator[None]:
    """Ctrl-C at the first step after a state of so many steps is on disk. A signal could fall where
    Python lets no exception out, as in what it calls when it collects garbage."""

    def look(*step: object) -> None:
        if steps <= steps_of(last_state(out / "trainer")):
            raise KeyboardInterrupt

    hook = register_optimizer_step_pre_hook(look)
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        hook.remove()


def steps_of(state: str | None) -> int:
    return 0 if state is None else int(state.rpartition("-")[2])


def written(config: TrainSettings, directory: Path) -> str:
    path = directory / "settings.yaml"
    path.write_text(config.model_dump_json())  # JSON is YAML
    return str(path)


def interrupt_after(steps: int, config: TrainSettings, command: Sequence[str]) -> None:
    """Start processes and end them as soon as a state of so many steps is on disk."""
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as started:
        try:
            while True:
                if steps_of(last_state(config.out / "trainer")) >= steps:
                    break
                with suppress(subprocess.TimeoutExpired):
                    pytest.fail(f"ended with {started.wait(timeout=0.01)} before {steps} steps")
        finally:
            started.terminate()
    assert not checkpoint.is_complete(config.out)


def launched(kind: str, config: TrainSettings, directory: Path) -> list[str]:
    """The words of a launch of ``plaudit train`` by the example's configuration."""
    return [
        *(sys.executable, "-m", "accelerate.commands.launch"),
        *("--config_file", str(ROOT / "examples" / "launch" / f"{kind}.yaml")),
        *("--num_processes", "2", "--main_process_port", str(free_port())),
        str(ROOT / "tests" / "tiny" / "sharding_on_cpus.py"),
        *("train", written(config, directory)),
    ]


def run(command: Sequence[str]) -> None:
    found = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
