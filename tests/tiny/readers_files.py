"""What a reader of the pages has where the commands are run, in small: the same names, with a model
of sixteen narrow layers in the place of SmolLM2, and the first pairs of the demonstration in the
place of all."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from doc_blocks import ROOT, blocks
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
PAIRS = 80
# What plans of the repository say for all pairs, and what stands there for these few.
SMALLER = {
    "examples/warm/sft.yaml": ("batch_responses: 8", "batch_responses: 1"),
    "examples/demo/evaluate.yaml": ("validation: 0.1", "validation: 0.4"),
}
DEMO = "examples/demo/preferences.jsonl"


def lay_out(folder: Path, url: str) -> None:
    """All of it in ``folder``; plans that ask a service ask the one at ``url``."""
    for name in ("examples", "bench", "docker", "k8s", "service/monitoring"):
        shutil.copytree(ROOT / name, folder / name)
    for plan in folder.glob("examples/*/*.yaml"):
        plan.write_text(plan.read_text().replace("http://127.0.0.1:8000", url))
    for name, (written_there, here) in SMALLER.items():
        text = (folder / name).read_text()
        assert written_there in text, name
        (folder / name).write_text(text.replace(written_there, here))
    # make runs the real one, which needs the package with the model.
    (folder / "examples/demo/backbone.py").write_text("")
    lines = (ROOT / DEMO).read_text().splitlines()[:PAIRS]
    (folder / DEMO).write_text("\n".join(lines) + "\n")
    base(folder / "models/smollm2-135m", lines)
    shutil.copytree(folder / "models/smollm2-135m", folder / "models/all-MiniLM-L6-v2")
    data(folder, [json.loads(line) for line in lines])
    settings(folder)


def base(directory: Path, lines: list[str]) -> None:
    """A causal language model that was never trained, of as many layers as the plans train."""
    torch.manual_seed(0)
    tokenizer = words_of(lines)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=16,
        num_attention_heads=2, num_key_value_heads=1, max_position_embeddings=2048,
        pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def words_of(lines: list[str]) -> PreTrainedTokenizerFast:
    """Byte pairs of the texts, so that these have about as many tokens as with SmolLM2's."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=1000, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(lines, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<|pad|>", eos_token="<|im_end|>",
        additional_special_tokens=["<|im_start|>"], chat_template=CHATML,
    )  # fmt: skip


def data(folder: Path, pairs: list[dict[str, Any]]) -> None:
    """Data of the reader's own, in the shapes that the pages' commands read."""
    lists = [
        {"prompt": one["prompt"], "responses": [one["chosen"], one["rejected"]], "better": [[0, 1]]}
        for one in pairs
    ]
    gold = [
        {
            "prompt": one["prompt"],
            "reference": {"text": one["rejected"]},
            "responses": [
                {"text": one["chosen"], "win_probability": 0.9},
                {"text": one["rejected"] + " So it is.", "win_probability": 0.4},
            ],
        }
        for one in pairs
    ]
    for name in ("data/pairs.jsonl", "data/old-pairs.jsonl", "test.jsonl"):
        written(folder / name, pairs)
    written(folder / "pairs.jsonl", pairs[:8])  # for plaudit parity, one at a time in every dtype
    written(folder / "lists.jsonl", gold)
    (folder / "suite.yaml").write_text(f"sources: [{{name: demo, path: {DEMO}}}]\n")
    with gzip.open(folder / "data/lists.jsonl.gz", "wt") as file:
        file.writelines(json.dumps(row) + "\n" for row in lists)


def written(file: Path, rows: list[dict[str, Any]]) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def settings(folder: Path) -> None:
    """``one.yaml`` as docs/training.md writes it, and a plan of two members of it."""
    [one] = [
        block.text
        for block in blocks()
        if block.text.startswith("model: models/smollm2-135m\nout: runs/one")
    ]
    (folder / "one.yaml").write_text(one)
    members = "members: [{seed: 1, lr: 2.0e-4}, {seed: 2, lr: 3.0e-4}]\n"
    (folder / "plan.yaml").write_text(one.replace("runs/one", "runs/strength") + members)
