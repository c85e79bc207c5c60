"""A decoder's body in two parts: the lowest blocks, and those above with the final norm.

Letters: T tokens of a packed row, D width.
"""

import copy
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from plaudit.batch import PackedBatch, can_pack
from plaudit.forward import run_packed, use_packed_attention

# Packed models whose lower blocks hand their hidden states to the upper ones unchanged, under the
# names of Llama. (Gemma 2 scales what it is given; GPT-2 adds positions.)
SPLITTABLE = frozenset({"llama", "mistral", "qwen2", "qwen3"})


def can_split(model: PreTrainedModel) -> bool:
    return can_pack(model) and model.config.model_type in SPLITTABLE


def lower(model: PreTrainedModel, depth: int) -> nn.Module:
    """The lowest ``depth`` blocks: token ids to hidden states (1, T, D)."""
    view = _view(model, slice(depth))
    view.norm = nn.Identity()
    return view


def upper(model: PreTrainedModel, depth: int) -> nn.Module:
    """The blocks above ``depth`` with the final norm: hidden states to hidden states."""
    return _view(model, slice(depth, None))


def upper_states(top: nn.Module, batch: PackedBatch, states: Tensor) -> Tensor:
    """Last hidden state (N, D) of each sequence, by the upper blocks from states (1, T, D)."""
    return run_packed(top, batch, inputs_embeds=states)[0, batch.ends]


def _view(model: PreTrainedModel, part: slice) -> nn.Module:
    """The same modules under a shorter list of blocks; Transformers' own forward runs them.

    A view has a config of its own, so the model's attention is chosen before it is copied.
    """
    use_packed_attention(model)
    view: Any = copy.copy(model.base_model)
    view._modules = dict(view._modules)
    view.config = copy.copy(view.config)
    view.layers = view.layers[part]
    view.config.num_hidden_layers = len(view.layers)
    if getattr(view.config, "layer_types", None):
        view.config.layer_types = view.config.layer_types[part]
    return view  # type: ignore[no-any-return]
