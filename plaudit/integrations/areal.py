"""Reward functions for AReaL's workflows.

    PLAUDIT_CLIENT_URL=http://127.0.0.1:8000 …
    workflow = RLVRWorkflow(reward_fn, gconfig, tokenizer)
    workflow.async_reward_fn = async_reward_fn

AReaL (1.0.4, ``api/reward_api.py``) runs a ``reward_fn`` in a pool of processes with the texts and
ids of prompt and completion and the dataset's columns. 15 s after it was queued, not begun, it is
given up, tried three times more, and then the reward is **0**, with no more than a line in the log;
what raises is tried as often, and then the trajectory is rejected. A call of ``reward_fn`` is given
up before, by an exception, but no function can see how long it waited for a worker of the pool:
``async_reward_fn`` needs none.
"""

from collections.abc import Sequence
from typing import Any

from plaudit.client.batches import ItemLike
from plaudit.client.scores import EnsembleScores, Scores
from plaudit.integrations.conversations import prompt_in
from plaudit.integrations.failures import settle
from plaudit.integrations.source import Source, ask, ask_async, source_of, without_stop

# Of AsyncRewardWrapper; with a longer one set PLAUDIT_CLIENT_TIMEOUT_SECONDS to a little less.
AREAL_TIMEOUT_SECONDS = 15.0
ANSWER_SECONDS = AREAL_TIMEOUT_SECONDS - 3.0


def reward_fn(
    prompt: str,
    completions: str,
    prompt_ids: Sequence[int],
    completion_ids: Sequence[int],
    **columns: object,
) -> float:
    """The reward of one completion.

    ``prompt`` is text in the policy's template, so the prompt is taken from ``columns``, messages
    or a string, under ``messages`` unless PLAUDIT_CLIENT_PROMPT_KEY says otherwise.
    Raises ItemsFailed for a completion without a reward unless PLAUDIT_CLIENT_FAILED is a number.
    """
    source = source_of("areal", {}, prompt_key="messages", timeout_seconds=ANSWER_SECONDS)
    return _settled(source, ask(source, [_item(source, completions, columns)]))


async def async_reward_fn(
    prompt: str,
    completions: str,
    prompt_ids: Sequence[int],
    completion_ids: Sequence[int],
    **columns: object,
) -> float:
    """As ``reward_fn``, in the loop of the workflow, whose own ``async_reward_fn`` it replaces. It
    waits PLAUDIT_CLIENT_TIMEOUT_SECONDS, by default 600."""
    source = source_of("areal", {}, prompt_key="messages")
    return _settled(source, await ask_async(source, [_item(source, completions, columns)]))


def _settled(source: Source, scores: Scores | EnsembleScores) -> float:
    [reward] = settle(scores, source.failed)
    assert reward is not None
    return reward


def _item(source: Source, completion: str, columns: dict[str, Any]) -> ItemLike:
    missing = (
        f"the dataset has no column {source.prompt_key!r}, or nothing in it in this row: name "
        "the one that holds the prompt in PLAUDIT_CLIENT_PROMPT_KEY"
    )
    prompt = prompt_in(columns, source.prompt_key, missing)
    return {"prompt": prompt, "response": without_stop(source, completion)}
