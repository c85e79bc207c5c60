"""A custom reward function for slime, and for miles, its fork.

    PLAUDIT_CLIENT_URL=http://127.0.0.1:8000 python train.py … \\
        --custom-rm-path plaudit.integrations.slime.custom_rm

slime (``rollout/rm_hub/__init__.py``) awaits one function with a ``Sample``, or with a list of them
(``--group-rm``, or several samples of one rollout), and passes no options on.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from plaudit.client.batches import ItemLike
from plaudit.integrations.conversations import prompt_in, said
from plaudit.integrations.failures import disagreement, settle
from plaudit.integrations.source import PREFIX, Source, ask_async, source_of, without_stop


async def custom_rm(args: Any, sample: Any, **_: object) -> Any:
    """The reward of a sample, or those of a list; with ``--reward-key`` a dict of it, under
    ``--eval-reward-key`` too, and of an ensemble its disagreement.

    Raises ItemsFailed for a sample without a reward unless PLAUDIT_CLIENT_FAILED is a number, or
    ``none``, for which ``drop_failed`` has to be the dynamic sampling filter.
    """
    source, keys = source_of("slime", {}), _keys(args)
    samples = sample if isinstance(sample, list) else [sample]
    scores = await ask_async(source, [_item(args, source, one) for one in samples])
    rewards: list[Any] = list(settle(scores, source.failed))
    if keys:
        spread = disagreement(scores) if source.of_ensemble else [None] * len(rewards)
        rewards = [_keyed(keys, *pair) for pair in zip(rewards, spread, strict=True)]
    return rewards if isinstance(sample, list) else rewards[0]


def drop_failed(args: Any, samples: Sequence[Any], **_: object) -> bool:
    """``--dynamic-sampling-filter-path``: keep groups in which every sample has a reward."""
    return all(one.get_reward_value(args) is not None for one in _flat(samples))


def _flat(samples: Iterable[Any]) -> Iterable[Any]:
    for one in samples:
        yield from one if isinstance(one, list) else [one]


def _keys(args: Any) -> list[str]:
    """Where slime looks for a reward: under the first in training, the last in evaluation."""
    of_evaluation = getattr(args, "eval_reward_key", None)
    if of_evaluation and not args.reward_key:
        raise ValueError(
            "--eval-reward-key alone asks for a dict of a sample in evaluation and for a number in "
            "training, and a reward function is not told which it is: give --reward-key too"
        )
    return list(dict.fromkeys(key for key in (args.reward_key, of_evaluation) if key))


def _keyed(
    keys: Sequence[str], reward: float | None, spread: float | None
) -> dict[str, float | None]:
    found: dict[str, float | None] = dict.fromkeys(keys, reward)
    if spread is not None:
        found["plaudit_disagreement"] = spread
    return found


def _item(args: Any, source: Source, sample: Any) -> ItemLike:
    """The prompt is the dataset's, or the metadata's where slime has templated it."""
    if source.prompt_key is not None:
        missing = (
            f"a sample's metadata has no {source.prompt_key!r}: put the prompt (a string or "
            f"messages) there in the dataset, or name its key in {PREFIX}PROMPT_KEY"
        )
        prompt = prompt_in(sample.metadata, source.prompt_key, missing)
    elif args.apply_chat_template:
        raise ValueError(
            "with --apply-chat-template the prompt of a sample is in the policy's template, which "
            "the reward model's would wrap once more: keep the messages in the row's metadata, and "
            f"name their key in {PREFIX}PROMPT_KEY"
        )
    else:
        prompt = said(sample.prompt)
    return {"prompt": prompt, "response": without_stop(source, sample.response)}
