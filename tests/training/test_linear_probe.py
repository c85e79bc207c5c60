"""The probed head: what it minimises, that it is shared, kept, and never sees what is held out."""

import json

import numpy as np
import pytest
import torch
import yaml
from architectures import BERT
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from scipy.optimize import minimize
from short_runs import same, weights
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel

from plaudit import checkpoint
from plaudit.conversation import Encoder
from training import backbone, linear_probe
from training.data.sources import Source
from training.data.splits import Fold, Split
from training.linear_probe import differences, fit, main, probe_head
from training.method_settings import LinearProbe
from training.settings import SettingsError
from training.train import train
from training.training_data import Data

SPLIT = Split(validation=0.3, test=0.2)


@pytest.fixture
def config(configure, tmp_path):
    return configure(tmp_path / "out", epochs=1)


@pytest.fixture
def head(config, tmp_path):
    path = tmp_path / "heads" / "head.safetensors"
    probe_head(config, LinearProbe(l2=0.1), path)
    return path


def data_of(config) -> tuple[object, Data]:
    tokenizer = backbone.load_tokenizer(config)
    model = backbone.load_backbone(config, tokenizer).eval()
    return model, Data.of(config, Encoder(tokenizer, model.config.vocab_size, config.max_tokens))


@pytest.mark.parametrize("l2", [0.01, 1.0])
def test_the_weights_are_those_of_a_foreign_optimiser(l2):
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60, 5)) * [1, 10, 0.1, 3, 1] + [0.3, 2, 0, -1, 0]
    flips = np.where(np.arange(60) % 3 == 0, 0.3, 0.0)
    size = np.sqrt((rows**2).mean(axis=0))

    def cost(weight):
        margins = rows @ weight
        costs = (1 - flips) * np.logaddexp(0, -margins) + flips * np.logaddexp(0, margins)
        return costs.mean() + l2 / 2 * ((weight * size) ** 2).sum()

    found = fit(rows, flips, l2)
    best = minimize(cost, np.zeros(5), method="BFGS", options={"gtol": 1e-9})
    assert found == pytest.approx(best.x, rel=2e-3, abs=1e-4)


def test_a_dimension_in_which_nothing_differs_gets_no_weight():
    rows = np.array([[1.0, 0.0], [2.0, 0.0], [-0.5, 0.0]])
    found = fit(rows, np.zeros(3), 0.1)
    assert found[0] > 0
    assert found[1] == 0


def test_units_of_the_states_do_not_matter():
    generator = np.random.default_rng(1)
    rows = generator.normal(size=(40, 3)) + 0.5
    scale = np.array([1e-3, 1.0, 1e3])
    found = fit(rows * scale, np.zeros(40), 0.1)
    assert found * scale == pytest.approx(fit(rows, np.zeros(40), 0.1), rel=1e-3)


def test_differences_are_those_of_plain_transformers(config):
    model, data = data_of(config)
    found = differences(model, data.pairs[:6])
    plain = AutoModelForSequenceClassification.from_pretrained(config.model, num_labels=1).eval()
    for row, pair in zip(found, data.pairs, strict=False):
        chosen, rejected = (
            plain.base_model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
            for ids in (pair.chosen, pair.rejected)
        )
        assert row == pytest.approx((chosen - rejected).detach().numpy(), abs=1e-4)


def test_the_head_ranks_pairs_that_it_was_not_fitted_to(head, config):
    about = linear_probe.about(head)
    assert float(about["validation_accuracy"]) > 0.8
    assert int(about["pairs"]) == len(data_of(config)[1].pairs)
    model, data = data_of(config.model_copy(update={"head": head}))
    margins = differences(model, data.reference) @ model.score.weight.detach().numpy()[0]
    assert f"{(margins > 0).mean():.4f}" == about["validation_accuracy"]


def test_training_starts_from_the_head_and_names_it(head, config, tmp_path):
    first = config.model_copy(update={"head": head, "lr": 1e-9})
    train(first)
    manifest = checkpoint.read(first.out)[0]
    probed = load_file(head)["score.weight"]
    assert manifest.head_init == checkpoint.sha256(probed.numpy().tobytes())
    assert manifest.training["head"] == linear_probe.about(head)
    assert weights(first.out)["score.weight"] == pytest.approx(probed, abs=1e-6)


def test_train_fits_the_head_itself_where_the_settings_say_so(head, config):
    asked = config.model_copy(update={"probe": LinearProbe(l2=0.1)})
    train(asked)
    given = config.model_copy(update={"head": head, "out": config.out.with_name("given")})
    train(given)
    assert same(asked.out, given.out)
    manifests = [checkpoint.read(one.out)[0] for one in (asked, given)]
    assert manifests[0].head_init == manifests[1].head_init


def test_what_is_held_out_decides_nothing(config, tmp_path, easy_pairs):
    """Rejected responses of the held-out fold, of validation and of test are exchanged."""
    split = SPLIT.model_copy(update={"fold": Fold(count=3, held_out=1)})
    config = config.model_copy(update={"split": split})
    _, data = data_of(config)
    trained = {pair.pair.first_turn for pair in data.pairs}
    rows = [json.loads(line) for line in easy_pairs.read_text().splitlines()]
    other = tmp_path / "other.jsonl"
    changed = [
        row if row["prompt"][0]["content"] in trained else row | {"rejected": "Because, because."}
        for row in rows
    ]
    assert 0 < sum(a is b for a, b in zip(rows, changed, strict=True)) < len(rows)
    other.write_text("".join(json.dumps(row) + "\n" for row in changed))
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for path, source in zip(paths, (easy_pairs, other), strict=True):
        sources = [Source(name="easy", path=source)]
        probe_head(config.model_copy(update={"sources": sources}), LinearProbe(), path)
    a, b = (load_file(path)["score.weight"] for path in paths)
    assert torch.equal(a, b)


def test_a_complete_file_is_kept_and_one_of_other_data_is_refused(head, config, capsys):
    written = head.stat().st_mtime_ns
    probe_head(config, LinearProbe(l2=0.1), head)
    assert head.stat().st_mtime_ns == written
    said = capsys.readouterr().out
    assert "kept" in said
    assert "pairs to train on" not in said  # nothing that it was read from has changed
    probe_head(config.model_copy(update={"batch_pairs": 3}), LinearProbe(l2=0.1), head)
    said = capsys.readouterr().out
    assert "kept" in said
    assert "pairs to train on" in said
    assert head.stat().st_mtime_ns == written
    smoothed = config.model_copy(update={"label_smoothing": 0.1})
    for changed, probe in ((config, 0.2), (smoothed, 0.1)):
        with pytest.raises(SettingsError, match="fitted to other data"):
            probe_head(changed, LinearProbe(l2=probe), head)


def test_heads_that_do_not_fit_are_refused(config, tmp_path):
    tokenizer = backbone.load_tokenizer(config)
    path = tmp_path / "head.safetensors"
    with pytest.raises(SettingsError, match="make one: plaudit probe-head"):
        backbone.load_backbone(config.model_copy(update={"head": path}), tokenizer)
    path.write_bytes(b"half a fi")
    with pytest.raises(SettingsError, match=r"head .*head\.safetensors"):
        backbone.load_backbone(config.model_copy(update={"head": path}), tokenizer)
    save_file({"score.weight": torch.zeros(1, 7)}, path)
    with pytest.raises(SettingsError, match=r"\(1, 7\), this backbone's \(1, 32\)"):
        backbone.load_backbone(config.model_copy(update={"head": path}), tokenizer)


def test_an_encoder_is_refused(config, tmp_path, tokenizer):
    directory = tmp_path / "encoder"
    BertModel(BertConfig(**BERT, vocab_size=len(tokenizer))).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    with pytest.raises(SettingsError, match="bert model has other fresh layers"):
        probe_head(
            config.model_copy(update={"model": str(directory)}), LinearProbe(), tmp_path / "h"
        )


def test_the_command_writes_one_tensor(config, tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    out = tmp_path / "head.safetensors"
    assert main([str(file), "probe.l2=0.5", "--out", str(out)]) == 0
    with safe_open(out, framework="pt") as found:
        assert list(found.keys()) == ["score.weight"]
    assert linear_probe.about(out)["l2"] == "0.5"


def test_a_head_and_a_probe_are_refused_together(configure, tmp_path):
    with pytest.raises(ValueError, match="keep one"):
        configure(tmp_path, head=tmp_path / "h.safetensors", probe=LinearProbe())
