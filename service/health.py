"""Whether the service should be sent work."""

from collections.abc import Callable
from functools import partial

from service.canary import Canary
from service.metrics import Metrics
from service.registry import Registry


class Health:
    """``stopping``: whether a signal was heard; the server that listens sets it."""

    def __init__(self, registry: Registry, canary: Canary, metrics: Metrics):
        self._engine, self._canary = registry.engine, canary
        self.stopping: Callable[[], bool] = lambda: False
        metrics.saturation.ready.set_function(lambda: self.unready() is None)
        for name in registry.members:
            metrics.saturation.member_up.labels(name).set_function(partial(self._up, name))

    def _up(self, name: str) -> float:
        return self._engine.ready and self._canary.sings(name)

    def unready(self) -> str | None:
        """Why not, or None. Load is no reason: work that moves is served."""
        if self.stopping():
            return "the server is stopping"
        if not self._engine.ready:
            return "the engine is being restarted"
        if stale := self._canary.stale():
            return f"for too long no forward has ended of {', '.join(stale)}"
        return None
