"""Checkpoints and clients that the tests of wire formats share."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

BOS = "<|begin|>"
CHATML = (
    "<|begin|>{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>{% endfor %}"
)


@pytest.fixture(scope="session")
def bos_checkpoint(
    tmp_path_factory: pytest.TempPathFactory,
    save_plain: Callable[..., Path],
    make_complete: Callable[..., Path],
) -> Path:
    """A model whose tokenizer puts a BOS before every text by itself, as Llama's do."""
    special = ["<|pad|>", BOS, "<|im_end|>", "<|im_start|>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: i for i, token in enumerate([*special, *alphabet])}
    backend = Tokenizer(models.BPE(vocab, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, vocab[BOS])]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<|pad|>", bos_token=BOS, eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"], chat_template=CHATML,
    )  # fmt: skip
    directory = tmp_path_factory.mktemp("bos") / "with-bos"
    return make_complete(save_plain(directory, tokenizer, seed=5))
