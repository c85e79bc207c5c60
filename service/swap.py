"""One checkpoint in the place of another, while the service answers.

The new one is scanned, loaded and probed beside the old one; then one assignment makes look-ups
find it. Who has looked the old one up is answered by it, and it is freed after the last of them.
"""

import asyncio
import time
from pathlib import Path

from plaudit import scan
from plaudit.checkpoint import CheckpointError
from service import model_root
from service.canary import Canary
from service.logs import event, log
from service.member import Member
from service.metrics import Metrics
from service.problems import Failure, quote
from service.registry import Registry, Served
from service.settings import SettingsError
from service.swap_request import SwapAnswer, SwapRequest

SWITCHED = "switched"


class Swaps:
    """Swaps members of ``registry`` for checkpoints below ``root``, one at a time."""

    def __init__(self, registry: Registry, canary: Canary, metrics: Metrics, root: Path):
        self._registry, self._canary, self._metrics = registry, canary, metrics
        self._root, self._under_way = root, asyncio.Lock()

    async def swap(self, asked: SwapRequest, client: str) -> SwapAnswer:
        """Switch, or change nothing and raise the Failure that says why. ``client`` is the name of
        the caller's key, for the log."""
        began = time.perf_counter()
        said = {"client": client, **self._named(asked)}
        result = "internal"
        try:
            before, after = await self._alone(asked)
            result = SWITCHED
            said |= {"from": before, "to": after}
        except Failure as failure:
            result = failure.kind
            raise
        finally:
            seconds = round(time.perf_counter() - began, 3)
            self._metrics.saturation.swaps.labels(result).inc()
            event("swap", result=result, seconds=seconds, **said)
        return SwapAnswer(asked.model, before, after, seconds)

    def _named(self, asked: SwapRequest) -> dict[str, str]:
        """What may stand in the log: names that are ours, or can harm nobody."""
        found = {}
        if asked.model in self._registry.members:
            found["model"] = asked.model
        if model_root.NAME.fullmatch(asked.checkpoint):
            found["checkpoint"] = asked.checkpoint
        return found

    async def _alone(self, asked: SwapRequest) -> tuple[str, str]:
        """The revisions before and after."""
        if self._under_way.locked():
            raise Failure("swap-in-progress", "one swap at a time, and another has not ended")
        async with self._under_way:
            old = self._member(asked.model)
            new = await self._load(old.name, model_root.find(self._root, asked.checkpoint))
            self._switch(old, new, self._served_with(new))
            return old.revision, new.revision

    def _member(self, name: str) -> Member:
        members = self._registry.members
        if name not in members:
            raise Failure(
                "unknown-model", f"no model {quote(name)!r}; those that can be swapped: "
                f"{sorted(members)}"
            )  # fmt: skip
        return members[name]

    async def _load(self, name: str, directory: Path) -> Member:
        try:
            await asyncio.to_thread(scan.refuse, [directory])
            return await self._registry.engine.load(name, directory)
        except Failure:
            raise
        except CheckpointError as error:
            raise Failure("bad-checkpoint", str(error)) from error
        except MemoryError as error:
            raise Failure("no-memory", f"{directory.name}: {error}") from error
        except Exception as error:  # whatever libraries make of files that are wrong
            log.exception("a checkpoint did not load")
            said = f"{directory.name}: {type(error).__name__} while it was loaded; see the log"
            raise Failure("bad-checkpoint", said) from error

    def _served_with(self, new: Member) -> Served:
        try:
            return self._registry.with_member(new)
        except (CheckpointError, SettingsError) as error:
            self._registry.engine.free_when_left(new)
            raise Failure("bad-checkpoint", str(error)) from error

    def _switch(self, old: Member, new: Member, served: Served) -> None:
        """Without a pause in which anything else could run."""
        registry, metrics = self._registry, self._metrics
        registry.serve(served)
        metrics.saturation.model_info.remove(*registry.info_labels(old))
        registry.announce(new, metrics)
        metrics.rewards.serve(registry.revisions())
        self._canary.follow(new)
        registry.engine.free_when_left(old)
