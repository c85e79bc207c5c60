"""A decoder's body in two parts: the lowest blocks, and those above with the final norm.

Letters: T tokens of a packed row, D width.
"""

import copy
from typing import Any

from torch import nn
from transformers import PreTrainedModel

from plaudit.reward_model import can_pack

# Packed models whose lower blocks hand their hidden states to the upper ones unchanged, under the
# names of Llama. (Gemma 2 scales what it is given; GPT-2 adds positions.)
SPLITTABLE = frozenset({"llama", "mistral", "qwen2", "qwen3"})


def can_split(model: PreTrainedModel) -> bool:
    return can_pack(model) and model.config.model_type in SPLITTABLE


def lower(body: nn.Module, depth: int) -> nn.Module:
    """The lowest ``depth`` blocks: token ids to hidden states (1, T, D)."""
    view = _view(body, slice(depth))
    view.norm = nn.Identity()
    return view


def upper(body: nn.Module, depth: int) -> nn.Module:
    """The blocks above ``depth`` with the final norm: hidden states to hidden states."""
    return _view(body, slice(depth, None))


def _view(body: nn.Module, part: slice) -> nn.Module:
    """The same modules under a shorter list of blocks; Transformers' own forward runs them."""
    view: Any = copy.copy(body)
    view._modules = dict(view._modules)
    view.config = copy.copy(view.config)
    view.layers = view.layers[part]
    view.config.num_hidden_layers = len(view.layers)
    if getattr(view.config, "layer_types", None):
        view.config.layer_types = view.config.layer_types[part]
    return view  # type: ignore[no-any-return]
