"""Checkpoints in the place of others, while the service answers.

The new ones are scanned, loaded and probed beside the old ones, which they may be compared with on
what callers ask; then one assignment makes look-ups find them. Who has looked an old one up is
answered by it, and it is freed after the last of them.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plaudit import scan
from plaudit.checkpoint import CheckpointError
from service import model_root, swap_limits
from service.audit import Audit, By
from service.canary import Canary
from service.logs import log
from service.member import Member
from service.metrics import Metrics
from service.origins import Origins
from service.problems import Failure, quote
from service.registry import Served
from service.scorer import Scorer
from service.settings import SettingsError
from service.shadow import Shadow
from service.swap_request import Exchange, SwapRequest
from service.swap_state import Moved, State, Swap, SwapView, record

# Swaps that GET /admin/swaps remembers.
REMEMBERED = 20
Pairs = Sequence[tuple[Member, Member]]
CANCELLED = "it was cancelled while it was compared"


@dataclass(frozen=True)
class Comparison:
    """One that is under way, and what is freed where nothing comes of it."""

    task: asyncio.Task[None]
    swap: Swap
    pairs: Pairs


class Swaps:
    """Swaps members that ``scorer`` asks for checkpoints below ``root``, one swap at a time."""

    def __init__(self, scorer: Scorer, canary: Canary, metrics: Metrics, audit: Audit, root: Path):
        self._scorer, self._registry, self._canary = scorer, scorer.registry, canary
        self._metrics, self._audit, self._root = metrics, audit, root
        self._numbers = itertools.count(1)
        self._asked: deque[Swap] = deque(maxlen=REMEMBERED)  # the newest first
        self._comparing: Comparison | None = None
        self.origins = Origins(self._registry.directories, root)

    def views(self) -> list[SwapView]:
        return [swap.view() for swap in self._asked]

    async def ask(self, asked: SwapRequest, by: By) -> SwapView:
        """Switch, or begin to compare; or change nothing and raise the Failure that says why."""
        swap = self._accept(asked, by)
        try:
            pairs = await self._loaded(swap)
            if asked.shadow is None:
                self._switch(swap, pairs)
            else:
                swap.state = "comparing"
                task = asyncio.create_task(self._compare(swap, pairs))
                self._comparing = Comparison(task, swap, pairs)
        except Failure as failure:
            unwanted = failure.kind == "swap-cancelled"
            self._end(swap, "cancelled" if unwanted else "refused", failure.detail, failure.kind)
            raise
        finally:
            if swap.state == "loading":
                self._end(swap, "failed", "see the server's log", "internal")
        return swap.view()

    async def cancel(self, by: By) -> SwapView:
        """End the swap that is under way; what is being loaded is loaded to its end first."""
        swap = self._under_way()
        if swap is None:
            raise Failure("no-swap", "no swap is under way")
        swap.cancelled_by = by.who
        await self.close()
        return swap.view()

    async def close(self) -> None:
        """Compare no longer. To be called before the engine closes."""
        found = self._comparing
        if found is None:
            return
        found.task.cancel()
        await asyncio.wait([found.task])
        if found.swap.under_way:  # a task that is cancelled before its first step takes none
            self._end(found.swap, "cancelled", CANCELLED, "cancelled")
            self._compared(found.swap, found.pairs)

    def _under_way(self) -> Swap | None:
        return self._asked[0] if self._asked and self._asked[0].under_way else None

    def _accept(self, asked: SwapRequest, by: By) -> Swap:
        if self._under_way() is not None:
            self._metrics.saturation.swaps.labels("swap-in-progress").inc()
            raise Failure("swap-in-progress", "one swap at a time, and another has not ended")
        moved = [self._named(one) for one in asked.exchanges]
        swap = Swap(next(self._numbers), by, asked, moved)
        self._asked.appendleft(swap)
        record(self._audit, swap, "swap-asked", "accepted")
        return swap

    def _named(self, exchange: Exchange) -> Moved:
        """What may be said of it: names that are ours, or can harm nobody."""
        known = exchange.model in self._registry.members
        is_name = model_root.NAME.fullmatch(exchange.checkpoint)
        return Moved(
            exchange.model if known else "(unknown)",
            exchange.checkpoint if is_name else "(no name)",
        )

    def _end(self, swap: Swap, state: State, reason: str | None, result: str) -> None:
        swap.end(state, reason)
        self._metrics.saturation.swaps.labels(result).inc()
        more = {"cancelled_by": swap.cancelled_by} if state == "cancelled" else {}
        seconds = swap.view().seconds
        record(self._audit, swap, "swap", state, result=result, seconds=seconds, **more)

    async def _loaded(self, swap: Swap) -> Pairs:
        """Old and new members that could be exchanged now; of others nothing stays."""
        asked = swap.asked.exchanges
        found = [
            (self._member(one.model), model_root.find(self._root, one.checkpoint)) for one in asked
        ]
        pairs: list[tuple[Member, Member]] = []
        try:
            for old, directory in found:
                pairs.append((old, await self._load(old.name, directory)))
            swap.loaded(pairs)
            self._served_with(pairs)
            if swap.cancelled_by is not None:
                raise Failure("swap-cancelled", "it was cancelled while it was loaded")
        except BaseException:
            self._free([new for _, new in pairs])
            raise
        return pairs

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

    def _served_with(self, pairs: Pairs) -> Served:
        try:
            return self._registry.with_members([new for _, new in pairs])
        except (CheckpointError, SettingsError) as error:
            raise Failure("bad-checkpoint", str(error)) from error

    def _free(self, members: Sequence[Member]) -> None:
        for member in members:
            self._registry.engine.free_when_left(member)

    async def _compare(self, swap: Swap, pairs: Pairs) -> None:
        """While the old ones answer; then the switch, if the limits are kept."""
        assert swap.asked.shadow is not None
        shadow = Shadow(pairs, swap.asked.shadow, self._registry.engine.numerics, swap.tried)
        self._scorer.shadow = shadow
        try:
            await shadow.run()
            swap.reports = await asyncio.to_thread(shadow.reports)
            self._decide(swap, pairs)
        except asyncio.CancelledError:
            self._end(swap, "cancelled", CANCELLED, "cancelled")
        except Exception:  # noqa: BLE001  nobody hears how a task ends
            log.exception("a comparison failed")
            self._end(swap, "failed", "see the server's log", "internal")
        finally:
            self._compared(swap, pairs)

    def _compared(self, swap: Swap, pairs: Pairs) -> None:
        """However it ended."""
        self._scorer.shadow = self._comparing = None
        if swap.state != "switched":
            self._free([new for _, new in pairs])

    def _decide(self, swap: Swap, pairs: Pairs) -> None:
        limits = swap.asked.require
        if limits is None:
            reason = "it was only to be compared: nothing was required"
            self._end(swap, "compared", reason, "compared")
            return
        fewest = swap.asked.fewest
        against = {
            name: swap_limits.unmet(limits, fewest, report) for name, report in swap.reports.items()
        }
        if any(against.values()):
            said = [f"{name}: {', '.join(why)}" for name, why in against.items() if why]
            self._end(swap, "refused", "; ".join(said), "refused")
        else:
            self._switch(swap, pairs)

    def _switch(self, swap: Swap, pairs: Pairs) -> None:
        """All at once, without a pause in which anything else could run."""
        registry, metrics = self._registry, self._metrics
        registry.serve(self._served_with(pairs))
        for old, _ in pairs:
            metrics.saturation.model_info.remove(*registry.info_labels(old))
        for (old, new), moved in zip(pairs, swap.swaps, strict=True):
            registry.announce(new, metrics)
            self._canary.follow(new)
            self.origins.replaced(new.name, moved.checkpoint)
            registry.engine.free_when_left(old)
        metrics.rewards.serve(registry.revisions())
        self._end(swap, "switched", None, "switched")
