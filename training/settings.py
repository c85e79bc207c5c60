"""Settings of training: one YAML file, ``key=value`` overrides, unknown keys refused."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from plaudit import strict_yaml
from plaudit.checkpoint import Side
from training import loggers
from training.data.sources import Source
from training.data.splits import Split
from training.known_names import hint
from training.loggers import Logger
from training.method_settings import (
    ContrastiveSettings,
    LinearProbe,
    Lora,
    MetaSettings,
    Odin,
    ProductOfExperts,
)

# How a score becomes a reward: see plaudit.calibration.
Kind = Literal["standardise", "length"]
# The head that members share where their plan says ``probe``.
HEAD_FILE = "head.safetensors"


class SettingsError(ValueError):
    """Settings that cannot be used; the text names the key and what mends it."""


class DataSettings(BaseModel):
    """What to read and where to cut it."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    sources: list[Source] = Field(min_length=1, description="files or hub datasets of pairs")
    split: Split = Field(Split(), description="shares of prompts that are not trained on")


class TrainSettings(DataSettings):
    """Everything that ``plaudit train`` can be told."""

    model: str = Field(description="directory or hub id of the backbone")
    out: Path = Field(description="directory of the new checkpoint")
    chat_template: Path | None = Field(None, description="Jinja file used instead of the model's")
    max_tokens: int = Field(512, ge=8, description="longest sequence, written into the checkpoint")
    train_max_tokens: int | None = Field(None, ge=8, description="shorter limit while training")
    overlong: Literal["drop", "cut"] = Field("drop", description="what longer training pairs get")
    truncation_side: Side = Field("left", description="where to cut what is over max_tokens")
    validation_pairs: int | None = Field(400, ge=1, description="pairs per source that measure")

    train_layers: int | None = Field(None, ge=0, description="top blocks to train; null: all")
    trunk_cache: Path | None = Field(
        None, description="file of the frozen blocks' states, computed once if missing"
    )
    lora: Lora | None = Field(None, description="train adapters instead of the weights")
    gradient_checkpointing: bool = Field(False, description="trade compute for memory")
    dropout: float = Field(0.0, ge=0, lt=1, description="on each trained block's MLP output")

    epochs: float = Field(1.0, gt=0, description="passes over what is trained on")
    lr: float = Field(1e-5, gt=0, description="highest learning rate, after the warm-up")
    kwise: bool = Field(False, description="all pairs of a prompt as one (arXiv:2203.02155)")
    batch_pairs: int = Field(16, ge=1, description="pairs in one forward; with kwise, prompts")
    accumulation: int = Field(1, ge=1, description="forwards in one optimiser step")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of steps that warm up")
    scheduler: Literal["linear", "cosine", "constant"] = Field(
        "cosine", description="how lr falls after the warm-up"
    )
    weight_decay: float = Field(0.0, ge=0, description="of AdamW, decoupled")
    max_grad_norm: float = Field(1.0, gt=0, description="longer gradients are cut to it")
    label_smoothing: float = Field(0.0, ge=0, lt=0.5, description="share of labels held flipped")
    centring: float = Field(0.0, ge=0, description="weight of (chosen + rejected)**2")
    contrastive: ContrastiveSettings | None = Field(
        None, description="tell features apart, in two views (arXiv:2401.06080)"
    )
    meta: MetaSettings | None = Field(
        None, description="unlabelled responses to tell apart (arXiv:2405.00438)"
    )

    product_of_experts: ProductOfExperts | None = Field(
        None, description="a bias expert takes what length predicts (arXiv:2310.05199)"
    )
    odin: Odin | None = Field(
        None, description="a second head takes what length predicts (arXiv:2402.07319)"
    )
    word_limits: float = Field(
        0.0, ge=0, le=1, description="share of pairs also shown with a word limit"
    )
    calibration: Kind = Field(
        "standardise", description="length: also take off what a response's length explains"
    )
    seed: int = Field(0, description="data order and dropout")
    head_seed: int = Field(0, description="initial head; members of one ensemble share it")
    head: Path | None = Field(None, description="file of plaudit probe-head: the initial head")
    probe: LinearProbe | None = Field(
        None, description="fit the initial head to the training pairs (arXiv:2202.10054)"
    )
    precision: Literal["auto", "bf16", "fp32"] = Field("auto", description="auto: bf16 autocast")
    save_dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="of the checkpoint")
    save_steps: int = Field(100, ge=1, description="steps between resumable states")
    eval_steps: int | None = Field(
        None, ge=1, description="steps between measurements on validation pairs; null: none"
    )
    keep: Literal["last", "best"] = Field(
        "last", description="weights of the last step, or of the best measured accuracy"
    )
    patience: int | None = Field(
        None, ge=1, description="measurements without a better one that end the run"
    )
    logging_steps: int = Field(10, ge=1, description="steps between lines of the log")
    log_to: list[Logger] = Field(["tensorboard"], description="tensorboard, wandb, or none: []")

    @model_validator(mode="after")
    def _best_is_measured(self) -> "TrainSettings":
        if self.keep == "best" and self.eval_steps is None:
            raise ValueError("keep: best is the best of what is measured: set eval_steps")
        if self.patience is not None and self.keep == "last":
            raise ValueError("patience waits for a state that is kept: set keep: best")
        return self

    @model_validator(mode="after")
    def _adapters_or_blocks(self) -> "TrainSettings":
        if self.lora is not None and self.train_layers is not None:
            raise ValueError("lora trains adapters, train_layers the blocks themselves: keep one")
        return self

    @model_validator(mode="after")
    def _prompts_stay_whole(self) -> "TrainSettings":
        if self.kwise and self.word_limits:
            raise ValueError(
                "word_limits gives each pair its own prompt, and kwise weighs prompts: keep one"
            )
        return self

    @model_validator(mode="after")
    def _one_that_takes_length(self) -> "TrainSettings":
        if self.product_of_experts is not None and self.odin is not None:
            raise ValueError("product_of_experts and odin both take the length: keep one")
        return self

    @model_validator(mode="after")
    def _views_differ(self) -> "TrainSettings":
        if self.contrastive is not None and 0 in self._dropout_rates():
            raise ValueError(
                "contrastive compares two views that dropout makes, and with dropout 0 they are "
                "one: set dropout, 0.05 in arXiv:2401.06080"
            )
        if self.contrastive is not None and self.train_layers == 0:
            raise ValueError(
                "contrastive moves the features under the head: train_layers 0 leaves them"
            )
        return self

    @model_validator(mode="after")
    def _one_initial_head(self) -> "TrainSettings":
        if self.head is not None and self.probe is not None:
            raise ValueError("head is the file of a probed head, probe fits one: keep one")
        return self

    def _dropout_rates(self) -> list[float]:
        return [self.dropout]


class MemberSettings(BaseModel):
    """What makes one member differ; everything else is the plan's."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    seed: int
    lr: float = Field(gt=0)
    dropout: float = Field(0.0, ge=0, lt=1, description="default: the plan's")
    model: str = Field("", description="a start of its own, of one SFT run; default: the plan's")


class EnsemblePlan(TrainSettings):
    """A training plan with its members; ``out`` holds one directory for each."""

    members: list[MemberSettings] = Field(
        min_length=2, description="seed and lr of each, and its dropout or model"
    )

    @model_validator(mode="after")
    def _one_trunk_has_one_start(self) -> "EnsemblePlan":
        if self.trunk_cache is not None and len(set(self.starts)) > 1:
            raise ValueError(
                "trunk_cache holds the states of one start, and members have several: leave it out"
            )
        return self

    @property
    def starts(self) -> list[str]:
        """The backbone that each member starts from."""
        return [one.model or self.model for one in self.members]

    def _dropout_rates(self) -> list[float]:
        given = [one.model_dump(exclude_unset=True) for one in self.members]
        return [one.get("dropout", self.dropout) for one in given]

    def member(self, index: int) -> TrainSettings:
        """The settings of one member; a probed head is the plan's, and its file is in ``out``."""
        shared = self.model_dump(exclude={"members", "probe"})
        if self.probe is not None:
            shared["head"] = self.out / HEAD_FILE
        own = self.members[index].model_dump(exclude_unset=True) | {"model": self.starts[index]}
        return TrainSettings(**{**shared, **own, "out": self.out / f"member-{index}"})


Model = TypeVar("Model", bound=BaseModel)


def load(kind: type[Model], path: Path | None, overrides: Sequence[str] = ()) -> Model:
    """Read a YAML file into settings, then apply ``key=value`` overrides (dots go deeper). Without
    a file the overrides are all."""
    values = {} if path is None else _mapping(path)
    for override in overrides:
        _apply(values, override)
    return parse(kind, values, "settings" if path is None else str(path))


def load_to_run(kind: type[Model], path: Path | None, overrides: Sequence[str] = ()) -> Model:
    """The same, of what is to run here and now: LoggerError where a logger is not installed."""
    found = load(kind, path, overrides)
    loggers.require(found)
    return found


def _mapping(path: Path) -> dict[str, Any]:
    values = _yaml(text_of(path, "settings file"), str(path))
    if not isinstance(values, dict):
        raise SettingsError(f"{path}: not a mapping of settings")
    return values


def text_of(path: Path, what: str) -> str:
    """Of a file that settings, or a command, name; SettingsError where it holds no UTF-8."""
    if not path.is_file():
        raise SettingsError(f"{path}: no such {what}")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: the {what} is not UTF-8; save it as UTF-8") from None


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise SettingsError(f"{override!r}: write key=value")
    *parents, last = key.split(".")
    for parent in parents:
        if values.get(parent) is None:
            values[parent] = {}
        values = values[parent]
        if not isinstance(values, dict):
            raise SettingsError(f"{override!r}: {parent} holds no keys; change it in the file")
    values[last] = _yaml(value, repr(override))


def _yaml(text: str, where: str) -> Any:
    try:
        return strict_yaml.load(text)
    except yaml.YAMLError as error:
        raise SettingsError(f"{where}: {error}") from None


def parse(kind: type[Model], values: dict[str, Any], where: str) -> Model:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise SettingsError("\n".join(_explain(kind, e, where) for e in error.errors())) from None


def _explain(kind: type[BaseModel], error: Any, where: str) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] != "extra_forbidden":
        return ": ".join(part for part in (where, key, error["msg"]) if part)
    return f"{where}: unknown key {key!r}; {hint(str(error['loc'][-1]), _names(kind))}"


def _names(kind: type[BaseModel]) -> set[str]:
    """Of its keys and those nested in them."""
    found = set(kind.model_fields)
    for field in kind.model_fields.values():
        found = found.union(*map(_names, _models_in(field.annotation)))
    return found


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models_in(part)]


def describe(kind: type[BaseModel]) -> list[str]:
    """The settings of ``kind``, one line each, for ``--help``."""
    lines = ["settings:"]
    for name, field in kind.model_fields.items():
        default = "required" if field.is_required() else f"default {field.default}"
        lines.append(f"  {name:24} {field.description or ''} ({default})")
    return lines


def of_training(
    kind: type[Model], name: str, about: str | None, argv: Sequence[str]
) -> tuple[Model, bool]:
    """Of a command whose arguments are a file of settings and overrides; and whether it resumes."""
    parser = parser_of(kind, name, about)
    parser.add_argument("settings", type=Path, help="YAML file of settings")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")
    parser.add_argument("--resume", action="store_true", help="go on from the last saved state")
    options = parser.parse_args(argv)
    return load_to_run(kind, options.settings, options.overrides), options.resume


def of_command(kind: type[Model], name: str, about: str | None, argv: Sequence[str]) -> Model:
    """Of a command whose arguments are a file of settings, ``key=value`` overrides, or both."""
    parser = parser_of(kind, name, about)
    parser.add_argument(
        "settings", nargs="+", metavar="FILE|key=value", help="YAML file of settings, overrides"
    )
    return load_to_run(kind, *file_and_overrides(parser.parse_args(argv).settings))


def parser_of(kind: type[BaseModel], name: str, about: str | None) -> ArgumentParser:
    """Its help ends with every setting."""
    return ArgumentParser(
        prog=name,
        description=about,
        epilog="\n".join(describe(kind)),
        formatter_class=RawDescriptionHelpFormatter,
    )


def file_and_overrides(given: Sequence[str]) -> tuple[Path | None, Sequence[str]]:
    """What stands first is a file if it sets no key."""
    return (None, given) if "=" in given[0] else (Path(given[0]), given[1:])
