"""The frozen blocks' states from a file train as the blocks themselves do."""

import os
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from plaudit.attention import NAME
from plaudit.conversation import Encoder
from training import backbone
from training import frozen_trunk as frozen_trunk_module
from training.data.batches import PairCollator, dataset
from training.settings import SettingsError
from training.train import frozen_trunk, train
from training.trainer import Scorer
from training.training_data import read, train_region


@pytest.fixture
def config(configure, tmp_path):
    return configure(
        tmp_path / "out", train_layers=2, epochs=1, trunk_cache=tmp_path / "trunk.safetensors"
    )


def prepared(config):
    """The model, its pairs and its trunk."""
    tokenizer = backbone.load_tokenizer(config)
    model = backbone.load_backbone(config, tokenizer)
    pairs = train_region(config, read(config), Encoder(tokenizer, len(tokenizer), 128))
    return model, pairs, frozen_trunk(config, model, pairs)


def loss_and_gradients(scorer, inputs):
    scores, judged = scorer(inputs["batch"], inputs["states"]).scores, inputs["judged"]
    loss = -torch.nn.functional.logsigmoid(scores[judged.chosen] - scores[judged.rejected]).mean()
    loss.backward()
    found = {n: p.grad for n, p in scorer.named_parameters() if p.grad is not None}
    scorer.zero_grad(set_to_none=True)
    return loss.item(), found


def test_loss_and_gradients_are_those_of_the_whole_model(config):
    model, pairs, trunk = prepared(config)
    rows = list(dataset(pairs[:10]))
    loss, gradients = loss_and_gradients(Scorer(model), PairCollator(model)(rows))
    cached = PairCollator(model, trunk)(rows)
    # The frozen blocks do not run: wrong weights in them change nothing.
    for parameter in backbone.layers_of(model)[0].parameters():
        parameter.data.fill_(torch.nan)
    found, others = loss_and_gradients(Scorer(model, trunk), cached)
    assert found == pytest.approx(loss, abs=1e-5)
    assert gradients.keys() == others.keys()
    assert len(gradients) > 10
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, atol=1e-5, rtol=1e-4)


def test_a_run_with_the_file_ends_with_the_weights_of_one_without(config, configure, tmp_path):
    train(config)
    plain = configure(tmp_path / "plain", train_layers=2, epochs=1)
    train(plain)
    found, expected = (load_file(c.out / "model.safetensors") for c in (config, plain))
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-4)


def test_from_a_file_that_was_there_training_is_the_same(config):
    prepared(config)
    model, pairs, trunk = prepared(config)
    rows = list(dataset(pairs[:10]))
    found, gradients = loss_and_gradients(Scorer(model, trunk), PairCollator(model, trunk)(rows))
    loss, others = loss_and_gradients(Scorer(model), PairCollator(model)(rows))
    assert found == pytest.approx(loss, abs=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(others[name], gradient, atol=1e-5, rtol=1e-4)
    assert trunk.upper.config._attn_implementation == NAME  # or a mask of T x T is built


def test_another_member_reuses_the_file_and_other_data_is_refused(config, configure, tmp_path):
    *_, first = prepared(config)
    written = config.trunk_cache.stat().st_mtime_ns
    *_, second = prepared(config.model_copy(update={"seed": 5}))
    assert config.trunk_cache.stat().st_mtime_ns == written
    assert torch.equal(first._states, second._states)
    with pytest.raises(SettingsError, match="made of other data"):
        prepared(config.model_copy(update={"train_layers": 1}))


def test_a_run_that_goes_on_reuses_the_file_of_its_start(config, tmp_path):
    train(config)
    written = config.trunk_cache.stat().st_mtime_ns
    further = config.model_copy(update={"model": str(config.out), "out": tmp_path / "further"})
    *_, shared = prepared(further)
    assert config.trunk_cache.stat().st_mtime_ns == written
    *_, own = prepared(further.model_copy(update={"trunk_cache": tmp_path / "own.safetensors"}))
    assert torch.equal(shared._states, own._states)


def test_a_start_that_trained_the_frozen_blocks_is_refused(config, configure, tmp_path):
    prepared(config)
    whole = configure(tmp_path / "whole", epochs=1)
    train(whole)
    with pytest.raises(SettingsError, match="other frozen weights"):
        prepared(config.model_copy(update={"model": str(whole.out)}))


def test_a_file_that_is_none_is_refused_by_name(config):
    config.trunk_cache.write_bytes(b"half a fi")
    with pytest.raises(SettingsError, match=r"trunk\.safetensors.*remove it"):
        prepared(config)


def test_without_frozen_blocks_there_is_nothing_to_keep(config):
    with pytest.raises(SettingsError, match="set train_layers"):
        prepared(config.model_copy(update={"train_layers": None}))


KILLED = """
import os, signal, sys
from pathlib import Path
import torch
from training import frozen_trunk

def begin(states, path, about):
    path.write_bytes(b"half a file")
    os.kill(os.getpid(), signal.SIGKILL)

frozen_trunk.save_file = begin
frozen_trunk.write(Path(sys.argv[1]), torch.zeros(1), "")
"""


def test_what_a_killed_writer_had_begun_goes_with_the_next_run(config):
    path = config.trunk_cache
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    begun = {one.name for one in path.parent.iterdir()}
    assert begun
    assert path.name not in begun
    prepared(config)
    assert {one.name for one in path.parent.iterdir()} == {path.name, f".{path.name}.lock"}


def test_two_writers_do_not_write_one_file(tmp_path, monkeypatch):
    """Of one process or of one machine's number on another machine."""
    path, names = tmp_path / "trunk.safetensors", []
    save = frozen_trunk_module.save_file

    def noted(states, unfinished, about):
        names.append(unfinished.name)
        save(states, unfinished, about)

    monkeypatch.setattr(frozen_trunk_module, "save_file", noted)
    for host in ("one", "another"):
        monkeypatch.setattr(frozen_trunk_module.socket, "gethostname", lambda host=host: host)
        frozen_trunk_module.write(path, torch.zeros(1), "")
    assert len(set(names)) == 2
    assert str(os.getpid()) in names[0]
