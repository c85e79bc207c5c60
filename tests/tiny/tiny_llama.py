"""Llamas of width 32 with random weights from a seed: reward models and language models."""

from pathlib import Path

import torch
from transformers import (
    AutoModelForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,  # scores that differ well beyond rounding
    "pad_token_id": 0,
    "eos_token_id": 2,
}
REWARD = {
    "problem_type": "regression",
    "num_labels": 1,
    "id2label": {0: "reward"},
    "label2id": {"reward": 0},
}


def reward_model(vocab_size: int, seed: int, **changes: object) -> PreTrainedModel:
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=vocab_size, **TINY | REWARD | changes)
    return AutoModelForSequenceClassification.from_config(config)


def save_language_model(
    directory: Path, tokenizer: PreTrainedTokenizerFast, seed: int, **changes: object
) -> None:
    """With its tokenizer, and without a reward head."""
    torch.manual_seed(seed)
    config = LlamaConfig(vocab_size=len(tokenizer), **TINY | changes)
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)
