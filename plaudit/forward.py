"""One forward of a batch: the states that the head reads, and its scores.

Letters: N sequences, T the tokens of a packed row, D the width.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from plaudit import attention, deterministic, flex
from plaudit.batch import Batch, PackedBatch
from plaudit.scalar_head import apply_head, is_decoder, read_by_head


def scores(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Raw scores (N,), fp32, of a batch's sequences in their order. Differentiable."""
    return apply_head(model, pooled_states(model, batch))


def pooled_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """What the head reads of each sequence, (N, D). Differentiable."""
    if isinstance(batch, PackedBatch):
        return packed_states(model, batch)
    mask = torch.arange(batch.ids.shape[1], device=batch.ids.device) < batch.lengths[:, None]
    inputs = {"input_ids": batch.ids, "attention_mask": mask.long()}
    if not is_decoder(model):
        return read_by_head(model, inputs)
    hidden = model.base_model(**inputs, use_cache=False).last_hidden_state
    found: Tensor = hidden[torch.arange(len(hidden)), batch.lengths - 1]
    return found


def packed_states(model: PreTrainedModel, batch: PackedBatch) -> Tensor:
    """Last hidden state (N, D) of each sequence of a packed row."""
    use_packed_attention(model)
    return run_packed(model.base_model, batch, input_ids=batch.ids)[0, batch.ends]


def run_packed(body: nn.Module, batch: PackedBatch, **inputs: Tensor) -> Tensor:
    """Hidden states (1, T, D) of ids or embeddings by a body, or a part of one, that packs."""
    hidden: Tensor = body(
        **inputs, position_ids=batch.positions, use_cache=False, plan=batch.plan
    ).last_hidden_state
    return hidden


def use_packed_attention(model: PreTrainedModel) -> None:
    if model.config._attn_implementation not in (attention.NAME, deterministic.NAME, flex.NAME):
        model.set_attn_implementation(attention.NAME)
