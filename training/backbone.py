"""A backbone made ready to train: one-label head, trainable part, dropout."""

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel
from transformers import PreTrainedTokenizerBase as Tokenizer

from plaudit import checkpoint
from plaudit.checkpoint import Base
from plaudit.scalar_head import head, is_decoder
from training import hub
from training.settings import SettingsError, TrainSettings, text_of

# The tensor of a head's file; a decoder's own name for it.
HEAD = "score.weight"

# Encoders rarely carry a chat template. This one writes turns in plain words between the
# tokenizer's own marks, so that text from any source is encoded in one way.
ENCODER_TEMPLATE = (
    "{{ cls_token }}{% for message in messages %}{{ message['role'] }}: "
    "{{ message['content'] }}{{ sep_token }}{% endfor %}"
)


def own_tokenizer(model: str) -> Tokenizer:
    """As it is saved. SettingsError where none is: of some models Transformers makes up a blank
    one."""
    revision = hub.revision(model)
    try:
        found: Tokenizer = AutoTokenizer.from_pretrained(
            model, revision=revision, trust_remote_code=False
        )
    except ValueError as error:
        raise no_tokenizer(model) from error
    files = [Path(model) / name for name in found.vocab_files_names.values()]
    if Path(model).is_dir() and not any(path.is_file() for path in files):
        raise no_tokenizer(model)
    return found


def no_tokenizer(model: str) -> SettingsError:
    return SettingsError(
        f"{model}: no tokenizer that Transformers itself can read; save the model's beside it: "
        "tokenizer.save_pretrained(DIR)"
    )


def load_tokenizer(settings: TrainSettings) -> Tokenizer:
    tokenizer = own_tokenizer(settings.model)
    if settings.chat_template is not None:
        tokenizer.chat_template = text_of(settings.chat_template, "chat_template file")
    elif not tokenizer.chat_template and tokenizer.cls_token:
        tokenizer.chat_template = ENCODER_TEMPLATE
    if not tokenizer.chat_template:
        raise SettingsError(
            f"{settings.model} has no chat template; give one: chat_template=FILE.jinja"
        )
    if tokenizer.pad_token_id is None or tokenizer.pad_token_id == tokenizer.eos_token_id:
        raise SettingsError(
            f"{settings.model} has no pad token of its own (pad {tokenizer.pad_token!r}, eos "
            f"{tokenizer.eos_token!r}); set tokenizer.pad_token to an unused token and save it"
        )
    tokenizer.padding_side = "right"
    return tokenizer


def load_backbone(settings: TrainSettings, tokenizer: Tokenizer) -> PreTrainedModel:
    """The fp32 one-label classifier with the head of ``head``, or one drawn by ``head_seed``."""
    weight_files(settings.model)  # or Transformers would read pickled ones
    model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
        settings.model,
        revision=hub.revision(settings.model),
        num_labels=1,
        problem_type="regression",
        id2label={0: "reward"},
        label2id={"reward": 0},
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
        trust_remote_code=False,
    )
    if settings.head is None:
        initialise_head(model, settings.head_seed)
    else:
        load_head(model, settings.head)
    select_trainable(model, settings.train_layers)
    add_dropout(model, settings.dropout)
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    return model


def initialise_head(model: PreTrainedModel, seed: int) -> None:
    """N(0, 0.01/(D+1)) from a generator of its own: members share the head by sharing the seed.

    A tenth of the usual deviation (arXiv:2009.01325): pretrained states are large, and at full size
    a random direction costs a short run its first hundred steps.
    """
    weight = head(model).weight
    generator = torch.Generator().manual_seed(seed)
    std = 0.1 * (weight.shape[1] + 1) ** -0.5
    with torch.no_grad():
        weight.copy_(torch.randn(weight.shape, generator=generator) * std)


def load_head(model: PreTrainedModel, path: Path) -> None:
    """The head of a file that ``plaudit probe-head`` has written."""
    weight = head(model).weight
    try:
        with safe_open(path, framework="pt") as file:
            found = file.get_tensor(HEAD)
    except (SafetensorError, FileNotFoundError) as error:
        raise SettingsError(
            f"head {path}: {error}; make one: plaudit probe-head SETTINGS --out {path}"
        ) from None
    if found.shape != weight.shape:
        raise SettingsError(
            f"head {path} is of shape {tuple(found.shape)}, this backbone's {tuple(weight.shape)}: "
            "fit one to this backbone: plaudit probe-head"
        )
    with torch.no_grad():
        weight.copy_(found)


def head_digest(model: PreTrainedModel) -> str:
    return checkpoint.sha256(head(model).weight.detach().float().numpy().tobytes())


def layers_of(model: PreTrainedModel) -> nn.ModuleList:
    """The backbone's blocks, lowest first: its only list of modules that are blocks."""
    lists = [m for m in model.base_model.modules() if isinstance(m, nn.ModuleList)]
    return max(lists, key=len)


def select_trainable(model: PreTrainedModel, train_layers: int | None) -> None:
    """Train the head and the top ``train_layers`` blocks (None: everything)."""
    if train_layers is None:
        return
    layers = layers_of(model)
    if train_layers > len(layers):
        raise SettingsError(f"train_layers is {train_layers}, the model has {len(layers)} layers")
    for parameter in model.base_model.parameters():
        parameter.requires_grad_(False)
    for block in layers[len(layers) - train_layers :]:
        block.requires_grad_(True)
    norm = getattr(model.base_model, "norm", None)
    if norm is not None:
        norm.requires_grad_(True)


def hold_frozen_in_bf16(model: PreTrainedModel) -> None:
    """Frozen weights in bf16: autocast caches only the casts of weights that need a gradient."""
    for parameter in model.parameters():
        if not parameter.requires_grad:
            parameter.data = parameter.data.to(torch.bfloat16)


def add_dropout(model: PreTrainedModel, rate: float) -> None:
    """Dropout on what each trainable block's MLP adds to the residual stream.

    Pretrained decoders have none of their own; encoders have, and get their rate changed. It is
    one of the sources of diversity among WARM members (arXiv:2401.12187 section 4).
    """
    own = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    for module in own:
        module.p = rate
    if own or rate == 0 or not is_decoder(model):
        return
    for block in layers_of(model):
        if next(block.parameters()).requires_grad:
            mlp = block.get_submodule("mlp")
            mlp.register_forward_hook(
                lambda module, _, out: nn.functional.dropout(out, rate, module.training)
            )


def base(model: str) -> Base:
    """What is recorded of a directory, or of a hub's model."""
    commit = None if Path(model).is_dir() else hub.commit(model)
    return Base(id=model, digest=digest_of_base(model), commit=commit)


def digest_of_base(model: str) -> str:
    """Of a base's weights: a hub's model has the digest of a directory of the same files."""
    return checkpoint.file_digest(*weight_files(model))


def weight_files(model: str) -> list[Path]:
    """Safetensors; an error of ours where there are none."""
    directory = Path(model)
    return checkpoint.weight_files(directory) if directory.is_dir() else hub.weight_files(model)
