"""Tiny random models of every architecture, and sequences with every kind of common prefix."""

from copy import deepcopy

import numpy as np
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Olmo2Config,
    PreTrainedModel,
    Qwen2Config,
    Qwen3Config,
)

VOCABULARY = 96
DECODER = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,
    "pad_token_id": 0,
    "eos_token_id": 2,
    "num_labels": 1,
}
GPT2 = {
    "vocab_size": VOCABULARY,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 128,
    "initializer_range": 0.1,
    "attn_pdrop": 0.0,
    "bos_token_id": 2,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "num_labels": 1,
}
BERT = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 128,
    "initializer_range": 0.1,
    "pad_token_id": 0,
}
PACKED = {
    "llama": LlamaConfig(**DECODER),
    "qwen2": Qwen2Config(**DECODER),
    "qwen3": Qwen3Config(**DECODER, head_dim=8),
    "qwen2 with windows": Qwen2Config(
        **DECODER, use_sliding_window=True, sliding_window=8, max_window_layers=1
    ),
    "mistral": MistralConfig(**DECODER, sliding_window=None),
    "mistral with windows": MistralConfig(**DECODER, sliding_window=8),
    "gemma2": Gemma2Config(
        **DECODER, head_dim=8, sliding_window=8, attn_logit_softcapping=2.0, query_pre_attn_scalar=8
    ),
    "gemma3": Gemma3TextConfig(
        **DECODER,
        head_dim=8,
        sliding_window=8,
        layer_types=["sliding_attention", "full_attention"],
        query_pre_attn_scalar=8,
    ),
    "gpt2": GPT2Config(**GPT2),
    "gpt2 scaled by layer": GPT2Config(
        **GPT2, scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True
    ),
}
PADDED = {
    "llama with angles by length": LlamaConfig(
        **DECODER, rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}
    ),
    "bert": BertConfig(**BERT, vocab_size=VOCABULARY, num_labels=1),
    "gemma3 that looks ahead": Gemma3TextConfig(
        **DECODER, head_dim=8, use_bidirectional_attention=True
    ),
    "olmo2": Olmo2Config(**DECODER),
}


def made_up_sequences() -> list[list[int]]:
    """Chosen and rejected by turns: groups of one prompt, a history, copies, one token."""
    draw = np.random.default_rng(5)

    def ids(count: int) -> list[int]:
        return [int(i) for i in draw.integers(3, VOCABULARY, count)]

    prompt, history, last = ids(20), ids(12), ids(30)
    turns = [*history, *ids(10)]
    return [
        *([*prompt, *ids(size)] for size in (1, 9, 17, 4)),
        [*turns, *ids(11)],
        [*turns, *ids(9), *ids(9)],
        [*history, *ids(3)],
        history,
        last,
        list(last),
        [7],
        [*prompt[:5], *ids(6)],
        [*turns, *ids(60)],
        [*turns, *ids(88)],
    ]


SEQUENCES = made_up_sequences()


def build(config) -> PreTrainedModel:
    """A model of its own: choosing an attention function changes a shared config."""
    torch.manual_seed(1)
    return AutoModelForSequenceClassification.from_config(deepcopy(config)).eval()


def one_at_a_time(model: PreTrainedModel) -> torch.Tensor:
    """By eager attention, the only one of Transformers' own that knows soft caps."""
    model.set_attn_implementation("eager")
    return torch.cat([model(input_ids=torch.tensor([s])).logits[:, 0] for s in SEQUENCES])
