"""An environment for NeMo-RL that rewards with the service.

    from plaudit.integrations import nemo_rl
    nemo_rl.register()               # then env.plaudit.url: http://127.0.0.1:8000

NeMo-RL (``environments/interfaces.py``, ``utils.create_env``) makes a Ray actor of a class found by
its name and calls ``step`` with message logs and the rows' ``extra_env_info``. The data processors
put the policy's template into the prompt's content, so the prompt is taken from that info.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

from plaudit.client.batches import ItemLike
from plaudit.integrations.conversations import prompt_in
from plaudit.integrations.failures import disagreement, settle
from plaudit.integrations.source import Source, ask, source_of

ACTOR = f"{__name__}.PlauditEnvironment"


class Environment:
    """Follows NeMo-RL's ``EnvironmentInterface``. ``config`` holds options, see ``source.Options``,
    and NeMo-RL's own ``enabled``."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        options = {name: value for name, value in config.items() if name != "enabled"}
        self.source = source_of("nemo_rl", options, prompt_key="prompt")
        self._spread: list[float] = []

    def step(
        self,
        message_log_batch: Sequence[Sequence[Mapping[str, Any]]],
        metadata: Sequence[Mapping[str, Any] | None],
    ) -> Any:
        """An ``EnvironmentReturn`` that ends every episode, with rewards (N,).

        Raises ItemsFailed for a log without a reward unless ``failed`` is a number.
        """
        import torch

        logs = list(message_log_batch)
        items = [_item(self.source, *pair) for pair in zip(logs, metadata, strict=True)]
        scores = ask(self.source, items)
        rewards = settle(scores, self.source.failed)
        self._spread += [one for one in disagreement(scores) if one is not None]
        interfaces = import_module("nemo_rl.environments.interfaces")
        return interfaces.EnvironmentReturn(
            observations=[{"role": "environment", "content": f"reward {r:g}"} for r in rewards],
            metadata=[None] * len(logs),
            next_stop_strings=[None] * len(logs),
            rewards=torch.tensor(rewards, dtype=torch.float32),
            terminateds=torch.ones(len(logs), dtype=torch.bool),
            answers=[log[-1]["content"] for log in logs],
        )

    def global_post_process_and_metrics(self, batch: Any) -> tuple[Any, dict[str, float]]:
        """The batch as it is; of an ensemble, the mean disagreement since the last call."""
        spread, self._spread = self._spread, []
        return batch, {"plaudit/disagreement": sum(spread) / len(spread)} if spread else {}

    def shutdown(self) -> None:
        """NeMo-RL calls it at the end of a run."""


def register(name: str = "plaudit") -> None:
    """Make the environment known to NeMo-RL under ``name``, in the process that sets the run up."""
    actors = import_module("nemo_rl.distributed.ray_actor_environment_registry")
    executables = import_module("nemo_rl.distributed.virtual_cluster").PY_EXECUTABLES
    actors.ACTOR_ENVIRONMENT_REGISTRY[ACTOR] = executables.SYSTEM
    import_module("nemo_rl.environments.utils").register_env(name, ACTOR)


def __getattr__(name: str) -> Any:
    """``PlauditEnvironment``, as a Ray actor: NeMo-RL looks it up; nothing else needs Ray."""
    if name == "PlauditEnvironment":
        return _actor()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _actor() -> Any:
    return import_module("ray").remote(Environment)


def _item(
    source: Source, log: Sequence[Mapping[str, Any]], info: Mapping[str, Any] | None
) -> ItemLike:
    missing = (
        f"extra_env_info has no {source.prompt_key!r}, and the log holds the policy's "
        "template: let the data processor put the prompt there (a string or messages)"
    )
    prompt = prompt_in(info, source.prompt_key, missing)
    return {"prompt": prompt, "response": log[-1]["content"]}
