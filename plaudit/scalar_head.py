"""The scalar head: what of a classifier turns a pooled state into a score, always in fp32.

Letters: N sequences, D the width.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from plaudit import checkpoint, deterministic


def is_decoder(model: PreTrainedModel) -> bool:
    """Decoder classifiers of Transformers name their head ``score`` and read the last token."""
    return isinstance(getattr(model, "score", None), nn.Linear)


def head(model: PreTrainedModel) -> nn.Linear:
    """The scalar head: ``score`` of a decoder, the last linear layer of an encoder's classifier."""
    if is_decoder(model):
        found: nn.Linear = model.score
        return found
    linear = [m for m in model.classifier.modules() if isinstance(m, nn.Linear)]
    return linear[-1]


def apply_head(model: PreTrainedModel, states: Tensor) -> Tensor:
    """Pooled states (N, D) to scores (N,), both in fp32 also under autocast."""
    found = head(model)
    bias = None if found.bias is None else found.bias.float()
    project: Callable[[Tensor], Tensor] = partial(
        nn.functional.linear, weight=found.weight.float(), bias=bias
    )
    if deterministic.is_deterministic(model):
        project = deterministic.in_pieces(project)
    with torch.autocast(states.device.type, enabled=False):
        return project(states.float())[:, 0]


def read_by_head(model: PreTrainedModel, inputs: dict[str, Tensor]) -> Tensor:
    """Encoders pool, each in its own way, inside their classifiers: it is seen at the head."""
    read: list[Tensor] = []
    handle = head(model).register_forward_pre_hook(lambda _, args: read.append(args[0]))
    try:
        model(**inputs)
    finally:
        handle.remove()
    return read[0]


def keep_head_fp32(model: PreTrainedModel, directory: Path) -> None:
    """Hold the head in fp32 whatever the body's dtype: scores that differ by little tie in bf16.

    Its tensors are read again: loading in bf16 has rounded those of an fp32 checkpoint.
    """
    found = head(model).float()
    owned = {id(parameter) for parameter in found.parameters()}
    tensors = {name: p for name, p in model.named_parameters() if id(p) in owned}
    for path in checkpoint.weight_files(directory):
        with safe_open(path, framework="pt") as file:
            for name in tensors.keys() & set(file.keys()):
                tensors[name].data.copy_(file.get_tensor(name))
    found.register_forward_pre_hook(lambda _, args: (args[0].float(), *args[1:]))
