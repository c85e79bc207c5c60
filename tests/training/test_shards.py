"""Two processes with a half each of what is trained (gloo) train what one process does."""

import importlib.util
from types import SimpleNamespace

import pytest
import torch
from short_runs import history, interrupt_after, launched, run, weights
from torch.distributed.fsdp import CPUOffloadPolicy

from plaudit import checkpoint
from training import shards
from training.method_settings import Lora, Odin
from training.settings import SettingsError
from training.train import train

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None,
    reason="deepspeed is not installed: pip install deepspeed (it compiles when it is first used)",
)
OFFLOADED = SimpleNamespace(fsdp_version=2, cpu_offload=CPUOffloadPolicy())


def assert_same_run(a, b, within: float) -> None:
    for name in ("loss", "grad_norm"):
        found, expected = ([entry[name] for entry in history(config)] for config in (a, b))
        assert found == pytest.approx(expected, abs=within), name
    found, expected = weights(a.out), weights(b.out)
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=within)
    checkpoint.read(a.out)


@pytest.mark.parametrize("kind", ["fsdp", pytest.param("deepspeed", marks=needs_deepspeed)])
def test_a_broken_off_run_in_shards_goes_on_to_what_one_process_trains(configure, tmp_path, kind):
    shared = {"epochs": 12, "batch_pairs": 4, "save_steps": 20}
    alone = configure(tmp_path / "alone", accumulation=2, **shared)
    train(alone)
    sharded = configure(tmp_path / "sharded", **shared)
    command = launched(kind, sharded, tmp_path)
    interrupt_after(20, sharded, command)
    run([*command, "--resume"])
    assert_same_run(sharded, alone, within=1e-4)


def test_adapters_in_shards_are_put_together_and_merged(configure, tmp_path):
    shared = {"epochs": 2, "batch_pairs": 4, "save_steps": 10, "lora": Lora(r=2, alpha=8)}
    alone = configure(tmp_path / "alone", accumulation=4, **shared)
    train(alone)
    sharded = configure(tmp_path / "sharded", accumulation=2, **shared)
    run(launched("fsdp", sharded, tmp_path))
    assert_same_run(sharded, alone, within=1e-4)


def test_what_shards_round_to_bf16_is_what_one_process_rounds(configure, tmp_path):
    shared = {"epochs": 2, "batch_pairs": 4, "save_steps": 10, "precision": "bf16"}
    alone = configure(tmp_path / "alone", accumulation=2, train_layers=2, **shared)
    train(alone)
    sharded = configure(tmp_path / "sharded", train_layers=2, **shared)
    run(launched("fsdp", sharded, tmp_path))
    first, expected = (history(config)[0]["loss"] for config in (sharded, alone))
    assert first == expected
    assert_same_run(sharded, alone, within=1e-2)


@pytest.mark.parametrize(
    ("state", "changes", "complaint"),
    [
        ({"deepspeed_plugin": SimpleNamespace(zero_stage=3)}, {}, "set zero_stage: 2"),
        ({"fsdp_plugin": SimpleNamespace(fsdp_version=1)}, {}, "set fsdp_version: 2"),
        ({"fsdp_plugin": OFFLOADED}, {}, "set fsdp_offload_params: false"),
        ({"fsdp_plugin": OFFLOADED}, {"odin": Odin()}, "odin reads weights or lengths beside"),
    ],
)
def test_what_does_not_train_in_shards_is_refused(configure, tmp_path, state, changes, complaint):
    trainer = SimpleNamespace(
        accelerator=SimpleNamespace(state=SimpleNamespace(**state)),
        is_fsdp_enabled="fsdp_plugin" in state,
        is_deepspeed_enabled="deepspeed_plugin" in state,
    )
    with pytest.raises(SettingsError, match=complaint):
        shards.check(trainer, configure(tmp_path, **changes))
