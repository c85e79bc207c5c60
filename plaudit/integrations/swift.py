"""A reward function for ms-swift's GRPO, named in a plugin file.

    # plugin.py, for swift rlhf --rlhf_type grpo --external_plugins plugin.py --reward_funcs plaudit
    from plaudit.integrations.swift import Reward
    from swift.rewards import orms
    orms["plaudit"] = Reward

ms-swift (4.6.0, ``rl_core/grpo_algorithm.py``) makes one of the class and calls it with a batch's
completions and the rows' columns. Its turns hold role and content, calls of tools turns of their
own, and its marks of which turns are learnt (``dataset/preprocessor/core.py``), which are not
sent. It takes None for NaN, but sums over functions by ``nansum`` (``rl_core/advantage.py``), by
which a completion without a reward would get 0.0.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from plaudit.integrations.failures import settle
from plaudit.integrations.source import ask, source_of


class Reward:
    """Options are the variables ``PLAUDIT_CLIENT_…``."""

    def __init__(self, args: object = None, **_: object) -> None:
        self.source = source_of("swift", {})

    def __call__(
        self,
        completions: Sequence[str],
        messages: Sequence[Sequence[Mapping[str, Any]]],
        **columns: object,
    ) -> list[float | None]:
        """Of each conversation in ``messages``, which ends with its completion.

        Raises ItemsFailed for one without a reward unless PLAUDIT_CLIENT_FAILED is a number.
        """
        turns = [
            [{"role": turn["role"], "content": turn["content"]} for turn in conversation]
            for conversation in messages
        ]
        scores = ask(self.source, [{"messages": conversation} for conversation in turns])
        return settle(scores, self.source.failed)
