"""A reward function for AReaL's workflows.

    PLAUDIT_CLIENT_URL=http://127.0.0.1:8000 …
    RLVRWorkflow(reward_fn="plaudit.integrations.areal.reward_fn", …)

AReaL (1.0.4, ``api/reward_api.py``) runs the function in a pool of processes with the texts and ids
of prompt and completion and the dataset's columns. After 15 s it gives up, tries three times more,
and then takes **0**, with no more than a line in the log; what raises is tried as often, and then
the trajectory is rejected. So a call here is given up before, by an exception.
"""

from collections.abc import Sequence

from plaudit.client.batches import ItemLike
from plaudit.integrations.failures import settle
from plaudit.integrations.source import Source, ask, source_of, without_stop

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
    [reward] = settle(ask(source, [_item(source, completions, columns)]), source.failed)
    assert reward is not None
    return reward


def _item(source: Source, completion: str, columns: dict[str, object]) -> ItemLike:
    key = str(source.prompt_key)
    if key not in columns:
        raise ValueError(
            f"the dataset has no column {key!r}: name the one that holds the prompt in "
            "PLAUDIT_CLIENT_PROMPT_KEY"
        )
    return {"prompt": columns[key], "response": without_stop(source, completion)}
