"""Two processes train what one does (gloo)."""

import json
import subprocess
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file
from short_runs import LAUNCH

from plaudit import checkpoint
from training.contrastive import Contrast
from training.method_settings import ContrastiveSettings
from training.train import last_state, train


def losses(config) -> list[float]:
    (state,) = (config.out / "trainer").glob("checkpoint-*/trainer_state.json")
    return [
        entry["loss"] for entry in json.loads(state.read_text())["log_history"] if "loss" in entry
    ]


def launch(config, tmp_path, *more: str) -> subprocess.CompletedProcess[str]:
    settings = tmp_path / "settings.yaml"
    settings.write_text(config.model_dump_json())  # JSON is YAML
    command = [*LAUNCH, "train", str(settings), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize("kwise", [False, True])
def test_the_losses_and_weights_are_those_of_one_process_that_accumulates(
    configure, tmp_path, kwise
):
    # 40 pairs on 20 prompts: as many batches for each process.
    shared = {"epochs": 2, "batch_pairs": 5 if kwise else 4, "kwise": kwise, "save_steps": 1}
    alone = configure(tmp_path / "alone", accumulation=2, **shared)
    train(alone)
    together = configure(tmp_path / "together", **shared)
    found = launch(together, tmp_path)
    assert found.returncode == 0, found.stderr[-2000:]
    assert losses(together) == pytest.approx(losses(alone), abs=1e-4)
    weights, expected = (load_file(c.out / "model.safetensors") for c in (together, alone))
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-4)
    checkpoint.read(together.out)
    assert found.stdout.count("validation accuracy") == 1


def test_two_views_of_a_batch_and_its_prototypes_train_in_two_processes(configure, tmp_path):
    contrastive = ContrastiveSettings(kind="swav", prototypes=4)
    config = configure(
        tmp_path / "out",
        contrastive=contrastive,
        dropout=0.1,
        epochs=1,
        batch_pairs=4,
        save_steps=1,
    )
    found = launch(config, tmp_path)
    assert found.returncode == 0, found.stderr[-2000:]
    (state,) = (config.out / "trainer").glob("checkpoint-*/model.safetensors")
    drawn = Contrast(contrastive, 32, config.seed).prototypes
    assert not torch.equal(load_file(state)["contrast.prototypes"], drawn)
    checkpoint.read(config.out)


def test_an_interrupted_run_of_two_resumes_to_the_weights_of_a_whole_one(configure, tmp_path):
    whole, broken = (
        configure(tmp_path / name, epochs=12, batch_pairs=4, save_steps=4)
        for name in ("whole", "broken")
    )
    assert launch(whole, tmp_path).returncode == 0
    interrupt_after(broken, tmp_path, steps=8)  # in the second epoch of five steps
    found = launch(broken, tmp_path, "--resume")
    assert found.returncode == 0, found.stderr[-2000:]
    weights, expected = (load_file(c.out / "model.safetensors") for c in (broken, whole))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())


def interrupt_after(config, tmp_path, steps: int) -> None:
    """Start two processes and end them as soon as a state of so many steps is on disk."""
    settings = tmp_path / "broken.yaml"
    settings.write_text(config.model_dump_json())
    with subprocess.Popen([*LAUNCH, "train", str(settings)], stderr=subprocess.DEVNULL) as started:
        while True:
            last = last_state(config.out / "trainer")
            if last is not None and int(last.rpartition("-")[2]) >= steps:
                started.terminate()
                break
            with suppress(subprocess.TimeoutExpired):
                pytest.fail(f"ended with {started.wait(timeout=0.01)} before {steps} steps")
    assert not checkpoint.is_complete(config.out)
