"""What a run measures of validation pairs on its way, and which of its states it keeps.

Letters: P validation pairs.
"""

from typing import Any, NamedTuple

import numpy as np
from transformers import EvalPrediction, TrainerCallback, TrainerState

from training.measure import accuracy
from training.settings import TrainSettings

ACCURACY = "eval_accuracy"


class Kept(NamedTuple):
    """The step whose weights are kept, of so many, and its accuracy on the validation pairs."""

    step: int
    steps: int
    accuracy: float


def arguments(settings: TrainSettings) -> dict[str, Any]:
    """What ``TrainingArguments`` are to be told of it."""
    if settings.eval_steps is None:
        return {}
    found = {
        "eval_strategy": "steps",
        "eval_steps": settings.eval_steps,
        "per_device_eval_batch_size": settings.batch_pairs,
    }
    if settings.keep == "last":
        return found
    return found | {
        "save_steps": settings.eval_steps,  # only what was saved can be kept
        "save_total_limit": 2,  # the best and the last, from which a broken-off run goes on
        "load_best_model_at_end": True,
        "metric_for_best_model": ACCURACY,
        "greater_is_better": True,
    }


def callbacks(settings: TrainSettings) -> list[TrainerCallback]:
    return [] if settings.patience is None else [Patience(settings.patience)]


class Patience(TrainerCallback):
    """Ends a run after so many measurements without a better one.

    It counts from the best step, which a saved state knows: a counter of its own, as Transformers'
    has, would start over in a run that is resumed.
    """

    def __init__(self, measurements: int):
        self._measurements = measurements

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """On a save, because the best step is not known yet when a measurement is told."""
        if state.global_step - state.best_global_step >= self._measurements * args.eval_steps:
            control.should_training_stop = True

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Further than that is only the step of a run that had ended here and was broken off before
        it was sealed."""
        if state.global_step - (state.best_global_step or 0) > self._measurements * args.eval_steps:
            control.should_training_stop = True
            control.should_evaluate = control.should_save = False


def metrics(found: EvalPrediction) -> dict[str, float]:
    """Accuracy, mean margin and Bradley-Terry loss of margins (P,), without the terms that only
    training has."""
    margins = np.asarray(found.predictions, np.float64)
    return {
        "accuracy": accuracy(margins),
        "margin": float(margins.mean()),
        "loss": float(np.logaddexp(0, -margins).mean()),
    }


def kept(settings: TrainSettings, state: TrainerState) -> Kept | None:
    """None where the weights of the last step are."""
    if settings.keep == "last":
        return None
    return Kept(state.best_global_step, state.global_step, state.best_metric)
