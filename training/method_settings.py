"""Settings of single methods, each a part of those of training."""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Lora(BaseModel):
    """Low-rank adapters (arXiv:2106.09685), merged when the checkpoint is written."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    r: int = Field(16, ge=1, description="rank")
    alpha: int = Field(32, ge=1, description="scale, divided by the rank")
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: str | list[str] = Field("all-linear", description="modules that get adapters")


class ProductOfExperts(BaseModel):
    """A bias expert that sees the length alone, trained beside the model (arXiv:2310.05199)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    lr: float = Field(0.03, gt=0, description="of the bias expert; too slow, it takes nothing")


class Odin(BaseModel):
    """A second head that takes the length (arXiv:2402.07319), with the weights of its terms."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    length: float = Field(1.0, ge=0, description="of the heads' correlations with length")
    orthogonal: float = Field(1.0, ge=0, description="of the cosine between the heads")


class ContrastiveSettings(BaseModel):
    """A contrastive term on two dropout views of the features (arXiv:2401.06080 section 3).

    Weights and prototypes are that paper's where none are given. It names no temperature: those of
    SimCSE (arXiv:2104.08821) and SwAV (arXiv:2006.09882) are used.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["simcse", "swav"]
    of: Literal["responses", "differences"] = Field("responses", description="what is told apart")
    weight: float = Field(gt=0, description="simcse 1; swav 0.1, of differences 0.5")
    temperature: float = Field(gt=0, description="simcse 0.05, swav 0.1")
    prototypes: int | None = Field(ge=2, description="swav 50, of differences 20")

    @model_validator(mode="before")
    @classmethod
    def _fill(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        swav = {"weight": 0.1, "temperature": 0.1, "prototypes": 50}
        if values.get("of") == "differences":
            swav |= {"weight": 0.5, "prototypes": 20}
        simcse = {"weight": 1.0, "temperature": 0.05, "prototypes": None}
        return (swav if values.get("kind") == "swav" else simcse) | values

    @model_validator(mode="after")
    def _prototypes_are_of_swav(self) -> "ContrastiveSettings":
        if (self.prototypes is not None) != (self.kind == "swav"):
            raise ValueError("prototypes are of swav, and only of it")
        return self


class MetaSettings(BaseModel):
    """Unlabelled responses that the scores are to tell apart (MetaRM, arXiv:2405.00438)."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    path: Path = Field(description="a .jsonl or .jsonl.gz file of prompt and responses")
    step: float = Field(ge=0, description="step up the difference objective; 0 is plain training")
    prompts: int = Field(8, ge=1, description="prompts of one step")
    responses: int = Field(4, ge=2, description="responses of each")


class LinearProbe(BaseModel):
    """The initial head, fitted on the frozen backbone's states before anything else trains."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    l2: float = Field(1.0, gt=0, description="of the weights, each state scaled to unit size")
