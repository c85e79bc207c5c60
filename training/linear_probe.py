"""``plaudit probe-head``: the initial head fitted alone, on the frozen backbone's states.

Linear probing before fine-tuning keeps the features from being bent towards a random head
(arXiv:2202.10054); members of one WARM average share the probed head (arXiv:2401.12187).
Letters: N sequences, P pairs, D width.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from sklearn.linear_model import LogisticRegression
from tqdm import tqdm
from transformers import AutoConfig, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from plaudit.batch import batch_for, can_pack
from plaudit.checkpoint import ids_digest, sha256
from plaudit.conversation import Encoder
from plaudit.forward import pooled_states
from plaudit.packing import packed_batches, padded_batches
from plaudit.reward_model import pick_device
from plaudit.scalar_head import is_decoder
from plaudit.whole_file import write_whole
from training import backbone, hub, settings
from training.data.encoding import EncodedPair
from training.losses import flipped_probability
from training.measure import Array, accuracy
from training.method_settings import LinearProbe
from training.settings import SettingsError, TrainSettings
from training.shared_files import alone
from training.training_data import Data

# Tokens of one forward.
MAX_TOKENS = 4096


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="plaudit probe-head", description=__doc__)
    parser.add_argument("settings", type=Path, help="YAML file of training settings")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")
    parser.add_argument("--out", type=Path, required=True, help="file of the head (.safetensors)")
    options = parser.parse_args(argv)
    config = settings.load(TrainSettings, options.settings, options.overrides)
    probe_head(config, config.probe or LinearProbe(), options.out)
    return 0


def probe_head(config: TrainSettings, probe: LinearProbe, path: Path) -> None:
    """Fit a head to the training pairs of ``config`` and write it to ``path``; one that is there
    is kept. Refuses a file that was fitted to other pairs, another base or otherwise.

    One of the same files and settings is known by their digest; otherwise its pairs are compared.

    Bradley-Terry by logistic regression on differences of states, without an intercept. A pair's
    soft label counts; its target margin does not, which logistic regression has no place for.
    """
    tokenizer = backbone.load_tokenizer(config)
    inputs = inputs_of(config, probe, tokenizer)
    if inputs and path.exists() and readable(path).get("inputs") == inputs["inputs"]:
        print(f"{said(path)}; kept", flush=True)
        return
    plain = config.model_copy(update={"head": None, "probe": None, "meta": None})
    architecture = AutoConfig.from_pretrained(
        config.model, revision=hub.revision(config.model), trust_remote_code=False
    )
    data = Data.of(plain, Encoder(tokenizer, architecture.vocab_size, config.max_tokens))
    fitted_on = digest_of(config, probe, data.pairs)
    with alone(path):
        if path.exists():
            keep(path, fitted_on)
            return
        model = untouched(plain, tokenizer)
        flips = flipped(data.pairs, config.label_smoothing)
        found = differences(model, data.pairs)
        weight = fit(found, flips, probe.l2)
        validation = accuracy(differences(model, data.reference) @ weight)
        about = {
            "format": "pt",
            "fitted_on": fitted_on,
            **inputs,
            "split": config.split.model_dump_json(),
            "data": json.dumps({one.source.name: one.digest for one in data.loaded}),
            "l2": str(probe.l2),
            "pairs": str(len(data.pairs)),
            "training_accuracy": f"{accuracy(found @ weight):.4f}",
            "validation_accuracy": f"{validation:.4f}",
        }
        write_whole(path, save({backbone.HEAD: torch.from_numpy(weight)[None]}, about))
    print(said(path), flush=True)


def inputs_of(config: TrainSettings, probe: LinearProbe, tokenizer: Tokenizer) -> dict[str, str]:
    """Digest of all that a head's pairs are read from and encoded by, none of which need be read
    again while it is the same; empty where they are not all files."""
    files = [source.path for source in config.sources if source.path and source.path.is_file()]
    if len(files) < len(config.sources) or not tokenizer.is_fast:
        return {}
    how = config.model_dump(mode="json", exclude={"out", "members", "probe"}), probe.l2
    encoding = tokenizer.backend_tokenizer.to_str() + str(tokenizer.chat_template)
    text = json.dumps([how, backbone.digest_of_base(config.model), encoding], sort_keys=True)
    return {"inputs": sha256(text.encode(), *(file.read_bytes() for file in files))}


def untouched(config: TrainSettings, tokenizer: Tokenizer) -> PreTrainedModel:
    """The backbone as training would get it."""
    model = backbone.load_backbone(config, tokenizer).eval()
    if not is_decoder(model):
        raise SettingsError(
            f"probe: the classifier of a {model.config.model_type} model has other fresh layers "
            "under its head; leave probe out"
        )
    model.to(pick_device("auto"))
    return model


def digest_of(config: TrainSettings, probe: LinearProbe, pairs: Sequence[EncodedPair]) -> str:
    """Of everything that decides the head: base, token ids, labels, regularisation."""
    labels = [pair.pair.soft_label for pair in pairs]
    ids = (ids_digest(ids).encode() for pair in pairs for ids in (pair.chosen, pair.rejected))
    how = f"{probe.l2} {config.label_smoothing} {labels}"
    return sha256(backbone.digest_of_base(config.model).encode(), how.encode(), *ids)


def keep(path: Path, fitted_on: str) -> None:
    if readable(path).get("fitted_on") != fitted_on:
        raise SettingsError(
            f"{path} is a head that was fitted to other data, another base or with other settings; "
            "remove it or name another file"
        )
    print(f"{said(path)}; kept", flush=True)


def readable(path: Path) -> dict[str, str]:
    """``about`` a file that may be no head at all."""
    try:
        return about(path)
    except SafetensorError as error:
        raise SettingsError(f"{path}: {error}; remove it") from None


def about(path: Path) -> dict[str, str]:
    """What a head's file says of itself."""
    with safe_open(path, framework="pt") as file:
        return file.metadata() or {}


def said(path: Path) -> str:
    found = about(path)
    return (
        f"{path}: head fitted to {found['pairs']} pairs, training accuracy "
        f"{found['training_accuracy']}, validation accuracy {found['validation_accuracy']}"
    )


def flipped(pairs: Sequence[EncodedPair], label_smoothing: float) -> Array:
    """The probability (P,) that each label is flipped, as in the loss of training."""
    labels = torch.tensor([pair.pair.soft_label for pair in pairs], dtype=torch.float64)
    return flipped_probability(labels, label_smoothing).numpy()


@torch.inference_mode()
def differences(model: PreTrainedModel, pairs: Sequence[EncodedPair]) -> Array:
    """Chosen less rejected pooled states (P, D) in fp32; a sequence of several pairs is computed
    once."""
    ordered = sorted({tuple(ids) for pair in pairs for ids in (pair.chosen, pair.rejected)})
    row = {ids: number for number, ids in enumerate(ordered)}
    states = np.empty((len(ordered), model.config.hidden_size), np.float32)
    plan = packed_batches if can_pack(model) else padded_batches
    for batch in tqdm(plan(ordered, MAX_TOKENS), desc="states for the head"):
        found = pooled_states(model, batch_for(model, [ordered[i] for i in batch]))
        states[batch] = found.float().cpu().numpy()
    chosen, rejected = (
        states[[row[tuple(ids)] for ids in side]]
        for side in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    )
    difference: Array = chosen - rejected
    return difference


def fit(differences: Array, flips: Array, l2: float) -> Array:
    """The weight (D,), fp32, that minimises the mean Bradley-Terry cost of ``differences`` (P, D)
    and ``l2 / 2`` times its squared norm, each dimension measured in its root mean square: so one
    ``l2`` suits states of any size.

    ``flips`` (P,) is the probability that a label is flipped.
    """
    size = np.sqrt(np.square(differences.astype(np.float64)).mean(axis=0))
    size[size == 0] = 1
    rows = differences / size
    # Each pair from both sides: the same cost, and two classes, which scikit-learn asks for.
    labels = np.repeat([1, 0, 0, 1], len(rows))
    weights = np.concatenate([1 - flips, 1 - flips, flips, flips]) / (2 * len(rows))
    model = LogisticRegression(C=1 / l2, fit_intercept=False, max_iter=10_000, tol=1e-6)
    model.fit(np.concatenate([rows, -rows, rows, -rows]), labels, sample_weight=weights)
    found: Array = (model.coef_[0] / size).astype(np.float32)
    return found
