"""Custom reward functions for verl's reward loop.

    reward.custom_reward_function.path=pkg://plaudit.integrations.verl
    reward.custom_reward_function.name=compute_score_async
    +reward.custom_reward_function.reward_kwargs.url=http://127.0.0.1:8000

verl (0.9.1, ``reward_loop/reward_manager/naive.py``) calls once for each sample, in a thread if the
function is not async, with what its dataset has and the decoded response, but without the prompt:
that must stand in the row's ``extra_info``, under ``question`` unless ``prompt_key`` names another.
"""

from collections.abc import Mapping
from typing import Any, Unpack

from plaudit.client.batches import ItemLike
from plaudit.client.scores import EnsembleScores, Scores
from plaudit.integrations.conversations import prompt_in
from plaudit.integrations.failures import disagreement, settle
from plaudit.integrations.source import Options, Source, ask, ask_async, source_of


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: object,
    extra_info: Mapping[str, Any] | None = None,
    reward_router_address: str | None = None,
    reward_model_tokenizer: object = None,
    **options: Unpack[Options],
) -> dict[str, float]:
    """``score``, the reward; ``plaudit_failed``, 1.0 if it is the stand-in ``failed``; of an
    ensemble, ``plaudit_disagreement``. The keys but ``score`` become metrics.

    Raises ItemsFailed for an item without a reward unless ``failed`` is a number.
    """
    source = source_of("verl", options, prompt_key="question")
    return _result(source, ask(source, [_item(source, solution_str, extra_info)]))


async def compute_score_async(
    data_source: str,
    solution_str: str,
    ground_truth: object,
    extra_info: Mapping[str, Any] | None = None,
    reward_router_address: str | None = None,
    reward_model_tokenizer: object = None,
    **options: Unpack[Options],
) -> dict[str, float]:
    """As ``compute_score``; a thousand samples then wait without as many threads."""
    source = source_of("verl", options, prompt_key="question")
    return _result(source, await ask_async(source, [_item(source, solution_str, extra_info)]))


def _item(source: Source, response: str, extra_info: Mapping[str, Any] | None) -> ItemLike:
    missing = (
        f"extra_info has no {source.prompt_key!r}, and verl passes no prompt on: put the "
        "prompt (a string or messages) there in the dataset, or name its key as prompt_key"
    )
    prompt = prompt_in(extra_info, source.prompt_key, missing)
    return {"prompt": prompt, "response": response}


def _result(source: Source, scores: Scores | EnsembleScores) -> dict[str, float]:
    [reward], [spread] = settle(scores, source.failed), disagreement(scores)
    assert reward is not None
    found = {"score": reward, "plaudit_failed": float(scores.rewards[0] is None)}
    if source.of_ensemble:  # the same keys for every sample, or verl cannot make columns of them
        found["plaudit_disagreement"] = float("nan") if spread is None else spread
    return found
