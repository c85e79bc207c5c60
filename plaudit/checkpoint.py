"""The checkpoint contract: a Hugging Face directory plus ``reward.json``.

Any tool loads the directory as ``AutoModelForSequenceClassification`` with one label.
``reward.json`` says what the weights are, how text becomes token ids and what the model must score;
it is written last and by rename, so its presence means the checkpoint is complete. Its digest is
the model's **revision**.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from plaudit.calibration import Calibration
from plaudit.printable import printable
from plaudit.whole_file import write_whole

MANIFEST = "reward.json"
FORMAT = 1
INDEX_FILE = "model.safetensors.index.json"
TEMPLATE_FILE = "chat_template.jinja"
# Templates by name; one named "default" takes the place of the file above.
TEMPLATE_FOLDER = "additional_chat_templates"
# The last two are of older writers. Transformers reads them wherever they lie.
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json",
)  # fmt: skip

Message = dict[str, str]
Side = Literal["left", "right"]


class CheckpointError(ValueError):
    """A directory that breaks the contract; the text names the field and what mends it."""


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The model that training began from; ``commit`` is that of a hub's model. Where training began
    from a checkpoint of a fine-tuning run, these are of the run's base, ``run`` is the run and
    ``start`` the checkpoint's own digest."""

    id: str
    digest: str
    run: str | None = None
    start: str | None = None
    commit: str | None = None


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One checkpoint of a WARM average: its path when averaged, its revision, its weight."""

    path: str
    digest: str
    coefficient: float


class Digests(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """SHA-256 of the files that change a score."""

    weights: str
    config: str
    tokenizer: str
    template: str


class Stats(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Raw scores on a named reference set; ``quantiles`` are the 5 %, 10 % … 95 % points."""

    reference: str
    reference_digest: str
    count: int
    mean: float
    std: float
    quantiles: tuple[float, ...]


class Probe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A fixed conversation, the digest of its token ids and its fp32 score."""

    messages: tuple[Message, ...]
    ids_digest: str
    score: float


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The contents of ``reward.json``."""

    format: int = FORMAT
    kind: Literal["single", "warm", "plain"]
    base: Base
    head_init: str
    members: tuple[Member, ...] = ()
    digests: Digests
    max_tokens: Annotated[int, msgspec.Meta(ge=1)]
    truncation_side: Side = "left"
    padding_side: Side = "right"
    dtype: str
    stats: Stats | None = None
    calibration: Calibration = Calibration()
    probes: tuple[Probe, ...] = ()
    training: dict[str, Any] = {}


def sha256(*parts: bytes) -> str:
    """Digest of length-prefixed parts, so that moving a boundary changes it."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return f"sha256:{digest.hexdigest()}"


def ids_digest(ids: Iterable[int]) -> str:
    return sha256(b"".join(i.to_bytes(4, "little") for i in ids))


def file_digest(*paths: Path, below: Path | None = None) -> str:
    """Digest of files by name, or by path ``below`` a directory, and content, read in pieces."""
    parts = []
    for path in paths:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        name = path.name if below is None else path.relative_to(below).as_posix()
        parts += [name.encode(), content]
    return sha256(*parts)


def weight_files(directory: Path) -> list[Path]:
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        raise CheckpointError(
            f"{directory}: no .safetensors weights. Pickled weights are never read; convert them "
            "where you trust them: model.save_pretrained(DIR)"
        )
    return files


def files(directory: Path) -> list[Path]:
    """The files of a checkpoint besides ``reward.json``."""
    alone = [path for name in ("config.json", INDEX_FILE) if (path := directory / name).is_file()]
    texts = template_files(directory) + tokenizer_files(directory)
    return alone + texts + weight_files(directory)


def tokenizer_files(directory: Path) -> list[Path]:
    return [path for name in TOKENIZER_FILES if (path := directory / name).is_file()]


def template_files(directory: Path) -> list[Path]:
    """The files with chat templates that a tokenizer reads."""
    one = directory / TEMPLATE_FILE
    named = sorted((directory / TEMPLATE_FOLDER).glob("*.jinja"))
    return [one, *named] if one.is_file() else named


def _config_file(directory: Path) -> Path:
    path = directory / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{directory}: no config.json; is this a model directory?")
    return path


def digests(directory: Path) -> Digests:
    """Digest the files of a checkpoint directory as they lie on disk."""
    tokenizer, template = text_digests(directory)
    return Digests(
        weights=file_digest(*weight_files(directory)),
        config=file_digest(_config_file(directory)),
        tokenizer=tokenizer,
        template=template,
    )


def text_digests(directory: Path) -> tuple[str, str]:
    """Digests of all files that decide which ids a text becomes: tokenizer and templates."""
    tokenizer, templates = tokenizer_files(directory), template_files(directory)
    if not tokenizer:
        raise CheckpointError(
            f"{directory}: no tokenizer.json; save the tokenizer beside the model"
        )
    return (
        file_digest(*tokenizer),
        file_digest(*templates, below=directory) if templates else sha256(b""),
    )


def write(directory: Path, manifest: Manifest) -> str:
    """Write ``reward.json``, whole or not at all, and return the revision."""
    data = msgspec.json.format(msgspec.json.encode(manifest), indent=1)
    write_whole(directory / MANIFEST, data)
    return revision_of(data)


def revision_of(manifest_bytes: bytes) -> str:
    return f"sha256:{hashlib.sha256(manifest_bytes).hexdigest()}"


def is_complete(directory: Path) -> bool:
    return (directory / MANIFEST).is_file()


def read(directory: Path) -> tuple[Manifest, str]:
    """The manifest of a checkpoint and its revision, every digest verified against the files.

    Raises CheckpointError naming the first field that does not match.
    """
    manifest, revision = read_manifest(directory)
    compare(directory, manifest.digests, digests(directory))
    check_config(directory)
    return manifest, revision


def read_manifest(directory: Path) -> tuple[Manifest, str]:
    """The manifest and its revision as they are written, with no file compared."""
    try:
        data = (directory / MANIFEST).read_bytes()
    except FileNotFoundError:
        raise CheckpointError(
            f"{directory}: no {MANIFEST}, so this is not a complete Plaudit checkpoint"
        ) from None
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CheckpointError(f"{directory}/{MANIFEST}: {printable(str(error))}") from None
    if manifest.format != FORMAT:
        raise CheckpointError(f"{directory}: format {manifest.format}, this version reads {FORMAT}")
    return manifest, revision_of(data)


def check_texts(directory: Path) -> None:
    """Compare tokenizer and templates alone with the manifest: no weight is read."""
    recorded = read_manifest(directory)[0].digests
    tokenizer, template = text_digests(directory)
    found = msgspec.structs.replace(recorded, tokenizer=tokenizer, template=template)
    compare(directory, recorded, found)


def compare(directory: Path, recorded: Digests, found: Digests) -> None:
    """CheckpointError naming the first digest that differs, and the files where they are few."""
    texts = {"tokenizer": tokenizer_files(directory), "template": template_files(directory)}
    for field in Digests.__struct_fields__:
        if getattr(found, field) != getattr(recorded, field):
            files = ", ".join(str(path.relative_to(directory)) for path in texts.get(field, []))
            raise CheckpointError(
                f"{directory}: digests.{field} does not match the files{files and f' ({files})'}: "
                f"they changed, or one was added, after {MANIFEST} was written; restore them or "
                "make the checkpoint again"
            )


def check_config(directory: Path) -> dict[str, Any]:
    """The parsed ``config.json``, refused where another tool would read it as no reward model."""
    config: dict[str, Any] = json.loads(_config_file(directory).read_text())
    if "auto_map" in config:
        raise CheckpointError(f"{directory}: config.json asks for remote code (auto_map): refused")
    if "text_config" in config:
        raise CheckpointError(
            f"{directory}: config.json is of several models in one ({config.get('model_type')}): "
            "serve its language model, saved as one of its own"
        )
    labels = config.get("id2label")
    count = len(labels) if labels is not None else config.get("num_labels", 2)
    if count != 1:
        raise CheckpointError(f"{directory}: num_labels is {count}, a reward model has 1")
    pad, eos = config.get("pad_token_id"), config.get("eos_token_id")
    if pad is None:
        raise CheckpointError(f"{directory}: pad_token_id is missing from config.json")
    if pad in (eos if isinstance(eos, list) else [eos]):
        raise CheckpointError(
            f"{directory}: pad_token_id equals eos_token_id, so the read position moves"
        )
    return config


def describe(directory: Path, max_tokens: int) -> tuple[Manifest, str]:
    """Manifest and revision of a checkpoint, or of a plain Hugging Face reward model."""
    if not directory.is_dir():
        raise CheckpointError(f"{directory}: no such directory")
    return read(directory) if is_complete(directory) else describe_plain(directory, max_tokens)


def describe_plain(directory: Path, max_tokens: int) -> tuple[Manifest, str]:
    """A manifest made for a plain Hugging Face reward model: no probes, no calibration."""
    config = check_config(directory)
    found = digests(directory)
    manifest = Manifest(
        kind="plain",
        base=Base(id=directory.resolve().name, digest=found.weights),
        head_init=found.weights,
        digests=found,
        max_tokens=min(max_tokens, _positions(config, default=max_tokens)),
        dtype=str(config.get("dtype") or config.get("torch_dtype") or "float32"),
    )
    return manifest, revision_of(msgspec.json.encode(manifest))


def _positions(config: dict[str, Any], default: int) -> int:
    """How many positions a model has, by the names that config.json files use."""
    found: int = config.get("max_position_embeddings") or config.get("n_positions") or default
    if "roberta" in config.get("model_type", ""):
        found -= int(config["pad_token_id"]) + 1  # its positions start after the pad token's id
    return found
