"""A model's files, which whoever may read other files of its maker can read too."""

from pathlib import Path

from transformers import PreTrainedModel


def save(model: PreTrainedModel, directory: Path) -> None:
    """Safetensors writes weights that only their owner can read. A server is seldom their owner:
    they get the mode of the configuration beside them, a file as any other."""
    model.save_pretrained(directory)
    mode = (directory / "config.json").stat().st_mode & 0o777
    for path in directory.glob("*.safetensors"):
        path.chmod(mode)
