"""Two processes train what one does (gloo)."""

import json
import subprocess

import pytest
import torch
from safetensors.torch import load_file
from short_runs import LAUNCH, interrupt_after, written

from plaudit import checkpoint
from training.contrastive import Contrast
from training.method_settings import ContrastiveSettings
from training.train import train


def losses(config) -> list[float]:
    (state,) = (config.out / "trainer").glob("checkpoint-*/trainer_state.json")
    return [
        entry["loss"] for entry in json.loads(state.read_text())["log_history"] if "loss" in entry
    ]


def launch(config, tmp_path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [*LAUNCH, "train", written(config, tmp_path), *more]
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)


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
        configure(tmp_path / name, epochs=6, batch_pairs=4, save_steps=4)
        for name in ("whole", "broken")
    )
    assert launch(whole, tmp_path).returncode == 0
    command = [*LAUNCH, "train", written(broken, tmp_path)]
    interrupt_after(8, broken, command)  # in the second epoch of five steps
    found = launch(broken, tmp_path, "--resume")
    assert found.returncode == 0, found.stderr[-2000:]
    weights, expected = (load_file(c.out / "model.safetensors") for c in (broken, whole))
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights.items())
