"""Whether the service should be sent work."""

from collections.abc import Callable
from functools import partial

from service.canary import Canary
from service.metrics import Metrics
from service.registry import Registry

# The longest text takes seconds; a chat template, which is a program, may run for ever.
TOKENIZE_SECONDS = 60.0


class Health:
    """``stopping``: whether a signal was heard; the server that listens sets it.
    ``tokenizing_seconds``: the scorer's."""

    def __init__(self, registry: Registry, canary: Canary, metrics: Metrics):
        self._engine, self.canary = registry.engine, canary
        self.stopping: Callable[[], bool] = lambda: False
        self.tokenizing_seconds: Callable[[], float] = lambda: 0.0
        metrics.saturation.ready.set_function(lambda: self.unready() is None)
        for name in registry.members:
            metrics.saturation.member_up.labels(name).set_function(partial(self._up, name))

    def _up(self, name: str) -> float:
        return self._engine.ready and self.canary.sings(name)

    def hopeless(self, hang_seconds: float) -> str | None:
        """Why nothing will be scored any more in this process, or None."""
        if (age := self.tokenizing_seconds()) > hang_seconds:
            return f"the tokenizer has been at an item for {age:.0f} s"
        return self._engine.hopeless

    def unready(self) -> str | None:
        """Why not, or None. Load is no reason: work that moves is served."""
        if self.stopping():
            return "the server is stopping"
        if (why := self._engine.hopeless) is not None:
            return why
        if not self._engine.ready:
            return "the engine is being restarted"
        if self.tokenizing_seconds() > TOKENIZE_SECONDS:
            return "the tokenizer does not come back from an item"
        if stale := self.canary.stale():
            return f"for too long no forward has ended of {', '.join(stale)}"
        return None
