"""How likely a policy finds responses: the mean log-probability of a response's tokens.

Responses to one prompt share its computation where the model may run packed (plaudit/attention.py);
other models are padded. Letters: N responses of a batch, M tokens of all of them, V vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, PreTrainedModel

from plaudit import attention
from plaudit.batch import PackedBatch, PaddedBatch
from plaudit.forward import use_packed_attention
from plaudit.packing import packed_batches, padded_batches
from plaudit.reward_model import DTYPES, pick_device
from training import hub
from training.policy.chat import Chat
from training.precision import measuring_dtype

# Ids of a prompt, and of a response behind it.
Answer = tuple[Sequence[int], Sequence[int]]


@dataclass(frozen=True)
class AnswerBatch:
    """What the model is called with, and of each token (M,) of the responses: where in the row, or
    in the padded rows one after another, it is predicted, its id, and whose response it is."""

    inputs: dict[str, Any]
    packed: bool
    predicted: Tensor
    targets: Tensor
    owner: Tensor
    count: int

    @classmethod
    def of(cls, model: PreTrainedModel, answers: Sequence[Answer]) -> "AnswerBatch":
        """Every prompt and response has at least one token."""
        sequences = [[*prompt, *response] for prompt, response in answers]
        packs = attention.is_proven(model.config)
        inputs, places = (packed if packs else padded)(model, sequences)
        begun = [len(prompt) for prompt, _ in answers]
        # A token is predicted by the one before it.
        predicted = [
            place for own, start in zip(places, begun, strict=True) for place in own[start - 1 : -1]
        ]
        targets = [token for _, response in answers for token in response]
        owner = [place for place, (_, response) in enumerate(answers) for _ in response]
        return cls(
            inputs,
            packs,
            torch.tensor(predicted, device=model.device),
            torch.tensor(targets, device=model.device),
            torch.tensor(owner, device=model.device),
            len(answers),
        )


def packed(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]]
) -> tuple[dict[str, Any], list[list[int]]]:
    """One row, and where in it the tokens of each sequence stand."""
    use_packed_attention(model)
    batch = PackedBatch.of(sequences, model.device)
    places = [
        [place for node in walk for place in range(node.start, node.stop)]
        for walk in batch.plan.packed.walks()
    ]
    return {"input_ids": batch.ids, "position_ids": batch.positions, "plan": batch.plan}, places


def padded(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]]
) -> tuple[dict[str, Any], list[list[int]]]:
    """As ``packed``, of padded rows one after another."""
    batch = PaddedBatch.of(sequences, model.config.pad_token_id, model.device)
    width = batch.ids.shape[1]
    mask = torch.arange(width, device=model.device) < batch.lengths[:, None]
    places = [[row * width + t for t in range(len(ids))] for row, ids in enumerate(sequences)]
    return {"input_ids": batch.ids, "attention_mask": mask.long()}, places


def mean_log_probabilities(model: Any, batch: AnswerBatch) -> Tensor:
    """(N,), fp32: ``Σ log π(token) / tokens`` of each response, its end token included.
    Differentiable."""
    if batch.packed:
        made = model(**batch.inputs, use_cache=False, logits_to_keep=batch.predicted)
        logits = made.logits[0]
    else:
        logits = model(**batch.inputs, use_cache=False).logits.flatten(0, 1)[batch.predicted]
    costs = cross_entropy(logits.float(), batch.targets, reduction="none")
    sums = torch.zeros(batch.count, device=costs.device).index_add(0, batch.owner, -costs)
    return sums / torch.bincount(batch.owner, minlength=batch.count)


def load(model: str, chat: Chat) -> PreTrainedModel:
    """To measure with, in the dtype that is soonest done."""
    found: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        model,
        revision=hub.revision(model),
        dtype=DTYPES[measuring_dtype()],
        pad_token_id=chat.tokenizer.pad_token_id,
        trust_remote_code=False,
    )
    return found.to(pick_device("auto")).eval()


@torch.inference_mode()
def of_all(model: PreTrainedModel, answers: Sequence[Answer], max_tokens: int) -> list[float]:
    """Of any number of responses, in order, at most ``max_tokens`` in one forward."""
    sequences = [[*prompt, *response] for prompt, response in answers]
    plan = packed_batches if attention.is_proven(model.config) else padded_batches
    found = [0.0] * len(answers)
    for places in plan(sequences, max_tokens):
        batch = AnswerBatch.of(model, [answers[place] for place in places])
        for place, value in zip(places, mean_log_probabilities(model, batch).tolist(), strict=True):
            found[place] = value
    return found
