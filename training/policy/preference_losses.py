"""The DPO family: which trainer of TRL has each loss, and what makes it the closed form below.

Letters: w the chosen response, l the rejected one, |y| the tokens of a response with its end;
``ratio`` is log pi(y|x) - log ref(y|x), summed over those tokens.

- ``dpo``   (arXiv:2305.18290)  -log sigmoid(beta · (ratio_w - ratio_l))
- ``ipo``   (arXiv:2310.12036)  (ratio_w / |w| - ratio_l / |l| - 1 / (2 beta))²
- ``kto``   (arXiv:2402.01306)  1 - sigmoid(beta · (ratio_w - z)) of a chosen response,
  1 - sigmoid(beta · (z - ratio_l)) of a rejected one; z, without a gradient and at least 0, is the
  mean ratio of the batch's responses behind other prompts of the batch
- ``orpo``  (arXiv:2403.07691)  nll - beta · log sigmoid(odds_w - odds_l), with
  odds = p - log(1 - exp p) and p = log pi(y|x) / |y|; nll is the mean over the tokens of prompt and
  chosen response
- ``simpo`` (arXiv:2405.14734)  -log sigmoid(beta · (p_w - p_l) - gamma)
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from trl import DPOConfig, KTOConfig

from training.policy.preference_trainers import Cpo, CPOConfig, Dpo, Kto, Orpo, ORPOConfig

Loss = Literal["dpo", "ipo", "kto", "orpo", "simpo"]
# The paper's margin where none is given (SimPO's, as align-anything sets it).
GAMMA = 1.4


@dataclass(frozen=True)
class Recipe:
    """A trainer, its configuration with what it is told besides, ``beta`` where none is given, and
    the rows it reads: of a pair, or of one response each."""

    trainer: type[Any]
    config: type[Any]
    beta: float
    told: Mapping[str, Any]
    rows: Literal["pairs", "singles"] = "pairs"


# The reference is asked before the first step: the policy itself then, and no second model.
BEFOREHAND = {"precompute_ref_log_probs": True, "max_length": None}
RECIPES: dict[Loss, Recipe] = {
    "dpo": Recipe(Dpo, DPOConfig, 0.1, {"loss_type": ["sigmoid"], **BEFOREHAND}),
    "ipo": Recipe(Dpo, DPOConfig, 0.1, {"loss_type": ["ipo"], **BEFOREHAND}),
    "kto": Recipe(Kto, KTOConfig, 0.1, {"loss_type": "kto", **BEFOREHAND}, "singles"),
    "orpo": Recipe(Orpo, ORPOConfig, 0.1, {"remove_unused_columns": False}),
    "simpo": Recipe(
        Cpo, CPOConfig, 2.5,
        # Without its own default of 1, which would add the likelihood of the chosen response.
        {"loss_type": "simpo", "cpo_alpha": 0.0, "remove_unused_columns": False},
    ),
}  # fmt: skip
