"""config.json against the weights: a model is built as large as the one says, whatever the other
holds. What is declared is read from headers alone.

A size that a configuration leaves out is its class's own, and not looked at here.
"""

import json
import re
from collections.abc import Iterator
from math import inf, prod
from pathlib import Path
from typing import Any

from plaudit.scan import weights
from plaudit.scan.finding import Finding, refused

LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "encoder_layers",
          "decoder_layers")  # fmt: skip
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim")
INNER = ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "moe_intermediate_size")
HEADS = ("num_attention_heads", "n_head", "num_key_value_heads")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
POSITIONS = ("max_position_embeddings", "n_positions")
SIZES = (*HIDDEN, *INNER, *HEADS, *EXPERTS, "vocab_size", "type_vocab_size", "embedding_size",
         "head_dim")  # fmt: skip
# Layers that have one set of weights, as ALBERT's, cost time alone.
SHARED, MAX_SHARED_LAYERS = "num_hidden_groups", 1000
# Of these each position has a row of weights; of others positions are computed.
LEARNED = {
    "albert", "bart", "bert", "camembert", "deberta", "deberta-v2", "distilbert", "electra", "gpt2",
    "gpt_neo", "opt", "roberta", "xlm", "xlm-roberta",
}  # fmt: skip
MAX_POSITIONS = 2**24
# No model has one so large, and a product of such numbers is still one for a float.
BEYOND = 2**63
EMBEDDING = re.compile(
    r"(.*\.)?(embed_tokens|word_embeddings?|wte|embed_in|tok_embeddings|shared)\.weight"
)
NUMBER = re.compile(r"\.(\d+)\.")
# Matrices of one layer are of several sizes: the estimate is of the largest alone.
SLACK = 4
REMEDY = "fetch config.json and the weights of one model again"


def check(directory: Path) -> list[Finding]:
    """For directories whose JSON and headers have nothing wrong."""
    declared = [weights.header(path)[1] for path in sorted(directory.glob("*.safetensors"))]
    shapes = {name: one.shape for tensors in declared for name, one in tensors.items()}
    config = json.loads((directory / "config.json").read_bytes())
    parts = [config, *(one for one in config.values() if isinstance(one, dict))]
    return [
        refused("config.json", f"{what}, more than its weights have", REMEDY)
        for part in parts
        for what in too_large(part, {name: s for name, s in shapes.items() if prod(s)})
    ]


def too_large(config: dict[str, Any], shapes: dict[str, list[int]]) -> Iterator[str]:
    """Sizes in a configuration, or in a part of it, that no tensor bears out."""
    largest = max((size for shape in shapes.values() for size in shape), default=0)
    embedded = [shape for name, shape in shapes.items() if EMBEDDING.fullmatch(name)]
    rows = max((shape[0] for shape in embedded), default=largest)
    for key, value in numbers(config, SIZES):
        if value > (rows if key == "vocab_size" else largest):
            yield f"{key} is {value}"
    layers = layers_of(shapes) if SHARED not in config else MAX_SHARED_LAYERS
    for key, value in numbers(config, LAYERS):
        if value > layers:
            yield f"{key} is {value}"
    learned = config.get("model_type") in LEARNED
    for key, value in numbers(config, POSITIONS):
        if value > (largest if learned else MAX_POSITIONS):
            yield f"{key} is {value}"
    if SHARED not in config and weights_of(config) > SLACK * sum(map(prod, shapes.values())):
        yield f"its layers would have {weights_of(config)} weights"


def numbers(config: dict[str, Any], keys: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Of lists, one number for each layer, the largest. What is not whole is too large for any."""
    for key in keys:
        value = config.get(key)
        several = value if isinstance(value, list) else [value]
        given = [one for one in several if isinstance(one, int | float)]
        if given:
            yield key, max(min(one, BEYOND) if isinstance(one, int) else inf for one in given)


def layers_of(shapes: dict[str, list[int]]) -> int:
    """One more than the highest number in the names of tensors, as ``model.layers.29.mlp``."""
    return 1 + max((int(n[:18]) for name in shapes for n in NUMBER.findall(name)), default=0)


def weights_of(config: dict[str, Any]) -> float:
    """The largest matrix of a layer, for each layer: less than a model of that size has."""

    def of(keys: tuple[str, ...], default: float = 0) -> float:
        return max((value for _, value in numbers(config, keys)), default=default)

    hidden, heads = of(HIDDEN), of(HEADS) * of(("head_dim",))
    return of(LAYERS) * hidden * max(hidden, heads, of(EXPERTS, 1) * of(INNER[-1:], of(INNER)))
