"""A tokenizer's files, the same wherever it was loaded."""

from pathlib import Path

from transformers import PreTrainedTokenizerBase


def save(tokenizer: PreTrainedTokenizerBase, directory: Path) -> None:
    """Transformers notes in them whether it was offline when it loaded the tokenizer; members of
    one average have the same files, trained offline or not."""
    tokenizer.init_kwargs.pop("local_files_only", None)
    tokenizer.save_pretrained(directory)
