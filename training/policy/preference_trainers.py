"""TRL's trainers of the DPO family on token ids of our own making (:mod:`preference_rows`).

By themselves they tokenise texts or conversations, each in a way of its own: what the template
writes behind the end token counts, or a second end token is put there, or one behind a response
that was cut.
"""

import warnings
from typing import Any

from datasets import Dataset
from trl import DPOTrainer, KTOTrainer
from trl.import_utils import TRLExperimentalWarning

with warnings.catch_warnings():
    # Where TRL keeps these two; that they may change is said in docs/policies.md.
    warnings.simplefilter("ignore", TRLExperimentalWarning)
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

__all__ = ["CPOConfig", "Cpo", "Dpo", "Kto", "ORPOConfig", "Orpo"]


class Dpo(DPOTrainer):  # type: ignore[misc]
    def _prepare_dataset(self, dataset: Dataset, *told: Any) -> Dataset:
        return dataset


class Kto(KTOTrainer):  # type: ignore[misc]
    def _prepare_dataset(self, dataset: Dataset, processor: Any, args: Any, name: str) -> Dataset:
        """Each response of a batch stands behind the next row's prompt as well, the last one
        behind the first."""
        size = args.per_device_train_batch_size
        return dataset.map(turned, batched=True, batch_size=size)


class Cpo(CPOTrainer):  # type: ignore[misc]
    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        return with_labels(feature)


class Orpo(ORPOTrainer):  # type: ignore[misc]
    def tokenize_row(self, feature: dict[str, Any], model: Any = None) -> dict[str, Any]:
        return with_labels(feature)


def turned(batch: dict[str, Any]) -> dict[str, Any]:
    *others, last = batch["completion_ids"]
    return {"KL_completion_ids": [last, *others]}


def with_labels(row: dict[str, Any]) -> dict[str, Any]:
    """As TRL's experimental trainers read a pair: whole sequences, and the responses' labels."""
    prompt = row["prompt_ids"]
    found = {"prompt_input_ids": prompt, "prompt_attention_mask": [1] * len(prompt)}
    for side in ("chosen", "rejected"):
        ids = row[f"{side}_ids"]
        found |= {
            f"{side}_input_ids": [*prompt, *ids],
            f"{side}_attention_mask": [1] * (len(prompt) + len(ids)),
            f"{side}_labels": [-100] * len(prompt) + ids,
        }
    return found
