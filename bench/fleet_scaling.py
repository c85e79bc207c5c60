"""A simulated autoscaler: Kubernetes' HorizontalPodAutoscaler, or KEDA, on queued tokens.

It knows an average of the past minute, as ``k8s/README.md`` computes it; what it starts is ready
only after scheduling and loading. The rule is that of
https://kubernetes.io/docs/tasks/run-application/horizontal-pod-autoscale/ : the wanted number is
ceil(now * average / target), left alone within a tenth of the target; a policy bounds growth,
and a fleet shrinks only to the largest number wanted during the stabilisation window.
"""

import math
from collections import deque
from dataclasses import dataclass

TOLERANCE = 0.1


@dataclass(frozen=True)
class Scaling:
    """Bounds and pace; the defaults are those of ``hpa.yaml`` under k8s/. Seconds and replicas.

    ``ready_seconds`` is from the decision until a replica answers: its node, image, load, probes.
    """

    least: int = 2
    most: int = 8
    target_tokens: float = 32_768
    look_seconds: float = 15.0
    average_seconds: float = 60.0
    ready_seconds: float = 60.0
    up: int = 2
    up_every: float = 60.0
    down: int = 1
    down_every: float = 300.0
    stable_seconds: float = 600.0


class Autoscaler:
    """Decides from what it is shown, every ``look_seconds``."""

    def __init__(self, scaling: Scaling):
        self._scaling = scaling
        self._seen: deque[tuple[float, float]] = deque()
        self._wanted: deque[tuple[float, int]] = deque()
        self._changed: deque[tuple[float, int]] = deque()

    def decide(self, now: float, replicas: int, queued_tokens: float) -> int:
        """How many replicas there are to be; ``queued_tokens`` is the sum over them now."""
        forget(self._seen, now - self._scaling.average_seconds)
        self._seen.append((now, queued_tokens))
        mean = sum(tokens for _, tokens in self._seen) / len(self._seen)
        wanted = self._stable(now, self._proposed(replicas, mean / replicas))
        found = self._paced(now, replicas, wanted)
        if found != replicas:
            self._changed.append((now, found - replicas))
        return found

    def _proposed(self, replicas: int, each: float) -> int:
        ratio = each / self._scaling.target_tokens
        wanted = replicas if abs(ratio - 1) <= TOLERANCE else math.ceil(replicas * ratio)
        return min(max(wanted, self._scaling.least), self._scaling.most)

    def _stable(self, now: float, proposed: int) -> int:
        forget(self._wanted, now - self._scaling.stable_seconds)
        self._wanted.append((now, proposed))
        return max(wanted for _, wanted in self._wanted)

    def _paced(self, now: float, replicas: int, wanted: int) -> int:
        """A policy counts what was changed within its period."""
        up = self._scaling.up - self._moved(now - self._scaling.up_every, 1)
        down = self._scaling.down - self._moved(now - self._scaling.down_every, -1)
        return min(max(wanted, replicas - max(0, down)), replicas + max(0, up))

    def _moved(self, since: float, sign: int) -> int:
        return sum(max(0, sign * count) for when, count in self._changed if when > since)


def forget(kept: deque[tuple[float, int]] | deque[tuple[float, float]], before: float) -> None:
    """Drop what is older."""
    while kept and kept[0][0] <= before:
        kept.popleft()
