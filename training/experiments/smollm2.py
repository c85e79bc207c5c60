"""The model that the experiments train: SmolLM2-135M-Instruct, whole or its lowest blocks."""

from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from training import saved_weights
from training.backbone import layers_of
from training.settings import SettingsError
from training.shared_files import alone

BASE = Path("models/smollm2-135m")
MAKE_BASE = "python examples/demo/backbone.py models/smollm2-135m"
# Of thirty. It writes no English, and learns what it is rewarded for all the same.
QUICK_BLOCKS = 6


def base(out: Path, quick: bool) -> Path:
    """The whole one, or for a quick form the lowest blocks, made once under ``out``."""
    require()
    if not quick:
        return BASE
    cut = out.resolve() / f"lowest-{QUICK_BLOCKS}-blocks"
    with alone(cut):
        made = (cut / "tokenizer.json").exists()  # the last that is written
        return cut if made else lowest_blocks(QUICK_BLOCKS, cut)


def require() -> None:
    if not (BASE / "config.json").is_file():
        raise SettingsError(f"{BASE}: no such model; make it first: {MAKE_BASE}")


def lowest_blocks(count: int, out: Path) -> Path:
    """A base of its own; returns ``out``."""
    model = AutoModelForCausalLM.from_pretrained(BASE)
    layers = layers_of(model)
    del layers[count:]
    model.config.num_hidden_layers = count
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:count]
    save(model, out)
    return out


def save(model: PreTrainedModel, out: Path) -> None:
    saved_weights.save(model, out)
    AutoTokenizer.from_pretrained(BASE).save_pretrained(out)
