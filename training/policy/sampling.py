"""Responses sampled from a causal language model by Transformers.

Letters: N prompts of a batch, K responses of each, T tokens.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from plaudit.packing import padded_batches
from plaudit.reward_model import DTYPES, pick_device
from training import hub
from training.policy.chat import Chat
from training.precision import measuring_dtype


class Sampling(BaseModel):
    """How a policy answers."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    responses: int = Field(8, ge=1, description="to each prompt")
    max_new_tokens: int = Field(256, ge=1, description="a response that is longer is cut there")
    temperature: float = Field(1.0, ge=0, description="0: the likeliest token, one response")
    top_p: float = Field(1.0, gt=0, le=1, description="of the tokens, the likeliest up to here")
    seed: int = 0
    batch_tokens: int = Field(16384, ge=1, description="prompts and responses of one batch")
    engine: Literal["transformers", "vllm"] = "transformers"
    dtype: Literal["auto", "float32", "bfloat16"] = Field(
        "auto", description="auto: bfloat16 where the hardware multiplies in it"
    )

    @model_validator(mode="after")
    def _likeliest_is_one(self) -> "Sampling":
        if self.temperature == 0 and self.responses > 1:
            raise ValueError("temperature 0 gives the same response again: set responses to 1")
        return self

    @property
    def torch_dtype(self) -> str:
        return measuring_dtype(self.dtype)


class FewSamples(Sampling):
    """Where a handful will do."""

    responses: int = Field(4, ge=1, description="to each prompt")


class Response(NamedTuple):
    """``finished``: it came to its own end, and was not cut at the limit."""

    text: str
    finished: bool


class Sampler(Protocol):
    """What samples: one engine, one policy."""

    def batches(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """Places of the prompts that are answered together, each place once."""
        ...

    def sample(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[Response]]:
        """K responses to each of N prompts, given as ids. The seed decides them."""
        ...


class TransformersSampler:
    """``generate`` over left-padded batches of similar lengths."""

    def __init__(self, model: PreTrainedModel, chat: Chat, settings: Sampling):
        self._model, self._chat, self._settings = model.eval(), chat, settings
        # What the model's own file says of sampling is not asked for.
        model.generation_config = GenerationConfig()

    @classmethod
    def load(cls, model: str, chat: Chat, settings: Sampling) -> "TransformersSampler":
        policy: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            model,
            revision=hub.revision(model),
            dtype=DTYPES[settings.torch_dtype],
            trust_remote_code=False,
        )
        return cls(policy.to(pick_device("auto")), chat, settings)

    def batches(self, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
        """By length, so that K rows of a batch's longest prompt with their responses are within the
        token budget; a prompt over it is a batch of its own."""
        room, copies = self._settings.max_new_tokens, self._settings.responses
        needed = [range(copies * (len(ids) + room)) for ids in prompts]
        return padded_batches(needed, self._settings.batch_tokens)

    @torch.inference_mode()
    def sample(self, prompts: Sequence[Sequence[int]], seed: int) -> list[list[Response]]:
        width = max(map(len, prompts))
        pad = self._chat.tokenizer.pad_token_id
        rows = [[pad] * (width - len(ids)) + list(ids) for ids in prompts]
        seen = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompts]
        device = self._model.device
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            found = self._model.generate(
                input_ids=torch.tensor(rows, device=device),
                attention_mask=torch.tensor(seen, device=device),
                generation_config=self._how(),
            )
        made = [self._response(ids) for ids in found[:, width:].tolist()]
        copies = self._settings.responses
        return [made[start : start + copies] for start in range(0, len(made), copies)]

    def _how(self) -> GenerationConfig:
        settings = self._settings
        drawn = {
            "do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p,
            "top_k": 0,
        }  # fmt: skip
        return GenerationConfig(
            **(drawn if settings.temperature else {"do_sample": False}),
            max_new_tokens=settings.max_new_tokens,
            num_return_sequences=settings.responses,
            pad_token_id=self._chat.tokenizer.pad_token_id,
            eos_token_id=sorted(self._chat.ends),
        )

    def _response(self, ids: list[int]) -> Response:
        own = ids[: self._chat.length(ids)]
        return Response(self._chat.text(own), own[-1] in self._chat.ends)
