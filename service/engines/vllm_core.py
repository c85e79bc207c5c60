"""One member's ``AsyncLLM``, whose forwards run in a process of its own, the core: it is watched,
ended when it hangs, and started again when it died.

What a core held when it died is computed again by the next one, before anything else, in groups of
the root of its number; the group that another death meets, one by one. So a sequence that ends the
core is found by three deaths at most, and put in quarantine; none of the others is lost.
"""

import asyncio
import itertools
import math
import time
from collections import deque
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
from vllm import PoolingParams, TokensPrompt
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.utils.system_utils import kill_process_tree
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from plaudit import probes
from plaudit.checkpoint import CheckpointError
from plaudit.joint_model import Asked
from service.engines.restarts import Restarts
from service.fair_queue import Caller, Priority
from service.logs import log
from service.member import Member
from service.metrics import Metrics
from service.work import STOPPING, EngineFault, Work, fault_of, settle

# Raw logits: by default vLLM sends a classifier's score through an activation.
RAW = PoolingParams(task="classify", use_activation=False)
# vLLM schedules smaller numbers first.
PRIORITIES: dict[Priority, int] = {"train": 0, "eval": 1, "offline": 2}
VERIFY_SECONDS = 300.0
LOOK_SECONDS = 1.0
# vLLM tells every caller of a core's death at once.
TELL_SECONDS = 10.0
# Another try of what ends the process costs everybody a restart.
HELD_SECONDS = 3600.0


class Core:
    """``hang_seconds``: without any result for so long, a core that has work is ended."""

    def __init__(self, arguments: AsyncEngineArgs, metrics: Metrics, hang_seconds: float):
        self._arguments, self._metrics, self._hang = arguments, metrics, hang_seconds
        self._numbers = itertools.count()
        self._running: dict[asyncio.Task[None], Work] = {}
        self._sent: dict[asyncio.Task[object], float] = {}  # since when a core has it
        self._suspects: deque[list[Work]] = deque()
        self._restarts = Restarts()
        self._heard_at = 0.0
        self._up = asyncio.Event()
        self._llm: AsyncLLM | None = None
        self._starting: asyncio.Future[AsyncLLM] | None = None
        self._beside: list[asyncio.Task[None]] = []

    @property
    def alive(self) -> bool:
        return self._up.is_set() and self._llm is not None and not self._llm.errored

    @property
    def hopeless(self) -> str | None:
        """Why it is not started again, or None."""
        if not self._restarts.exhausted:
            return None
        return f"the engine's core died, or did not start, {self._restarts.failures} times"

    async def open(self, member: Member) -> None:
        """Start, re-score the probes and keep watch. Raises CheckpointError."""
        with self._metrics.phase("load"):
            await self._start(member)
        self._rise()
        self._beside += [asyncio.create_task(self._watch(member))]
        self._beside += [asyncio.create_task(self._patrol())]

    def _rise(self) -> None:
        self._restarts.up()
        self._up.set()

    async def _start(self, member: Member) -> None:
        """Start and re-score the probes. Raises CheckpointError, whatever vLLM raised."""
        try:
            await self._launch(member)
        except CheckpointError:
            raise
        except Exception as error:
            raise CheckpointError(f"{member.name}: vLLM did not start: {error}") from error

    async def _launch(self, member: Member) -> None:
        # In a thread: the constructor blocks until the core has loaded the model.
        made = asyncio.to_thread(AsyncLLM.from_engine_args, self._arguments)
        self._starting = asyncio.ensure_future(made)
        self._llm = llm = await asyncio.shield(self._starting)
        try:
            async with asyncio.timeout(VERIFY_SECONDS):
                await self._verify(member)
        except BaseException:
            await asyncio.to_thread(llm.shutdown)  # or it holds the memory that the next one needs
            raise

    async def _verify(self, member: Member) -> None:
        encoded = probes.stored_ids(member)
        # A plain model has no probes; one forward still shows that it computes.
        found = await asyncio.gather(*(self._score(ids, 0) for ids in encoded or [[0]]))
        if not encoded:
            return
        scores = np.array(found, np.float32)
        refuse_squashed(member, scores, self._arguments.dtype)
        probes.check(member, scores, self._arguments.dtype)

    async def _watch(self, member: Member) -> None:
        """Start again whenever the core's process has died; till then, work waits."""
        while not self._restarts.exhausted:
            assert self._llm is not None
            await asyncio.wait([self._llm.output_handler])  # it ends with the core
            self._restarts.failed(was_up=True)
            self._up.clear()
            log.error("engine core died; starting another")
            await self._collect()
            await self._revive(member)

    async def _collect(self) -> None:
        """Let go of the dead core, and take what it held: those suspects come first."""
        if self._sent:
            await asyncio.wait([*self._sent], timeout=TELL_SECONDS)
        assert self._llm is not None
        await asyncio.to_thread(self._llm.shutdown)
        held = [work for group in self._suspects for work in group]
        self._suspects = deque(groups(held, math.isqrt(len(held)) or 1))

    async def _revive(self, member: Member) -> None:
        """Until a core is up and has computed what the one before it held, or is given up."""
        while not self._restarts.exhausted:
            await asyncio.sleep(self._restarts.pause_seconds)
            try:
                await self._start(member)
                if await self._acquit():
                    self._rise()
                    return
                assert self._llm is not None
                await asyncio.to_thread(self._llm.shutdown)
            except CheckpointError:  # what keeps it down may pass
                log.exception("engine core did not start")
            self._restarts.failed(was_up=False)

    async def _acquit(self) -> bool:
        """Compute what is suspected; whether the core outlives it."""
        while self._suspects:
            group = [work for work in self._suspects[0] if not work.done.done()]
            survived = all(await asyncio.gather(*(self._attempt(work) for work in group)))
            self._suspects.popleft()
            if not survived:
                self._accuse([work for work in group if not work.done.done()])
                return False
        return True

    def _accuse(self, works: list[Work]) -> None:
        """The core died over these: one is guilty, several are tried one by one."""
        if len(works) > 1:
            self._suspects.extendleft([work] for work in reversed(works))
        else:
            said = "the engine's process died of it"
            settle(works, error=EngineFault(said, held_seconds=HELD_SECONDS))

    async def _patrol(self) -> None:
        """End a core that has work and gives nothing back. Its death is then like any other."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            since = max(self._heard_at, min(self._sent.values(), default=math.inf))
            if time.perf_counter() - since > self._hang:
                log.error("engine core hangs; it is ended", extra={"fields": {"pids": self.pids}})
                for pid in self.pids:
                    kill_process_tree(pid)
                self._heard_at = time.perf_counter()

    @property
    def pids(self) -> list[int]:
        """Of the core's process; its workers are children of it."""
        assert self._llm is not None
        manager = self._llm.engine_core.resources.engine_manager
        return [process.pid for process in manager.processes] if manager is not None else []

    def submit(self, ids: Sequence[int], caller: Caller) -> Work:
        """Hand a sequence to vLLM. Abandoned work is aborted there."""
        work = Work(Asked(0, ids), caller, asyncio.get_running_loop().create_future())
        task = asyncio.create_task(self._run(work))
        self._running[task] = work
        task.add_done_callback(self._running.pop)
        work.done.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)
        return work

    async def _run(self, work: Work) -> None:
        await self._up.wait()
        if not await self._attempt(work):
            self._suspects.append([work])

    async def _attempt(self, work: Work) -> bool:
        """Settle a work; False where the core died over it."""
        task, llm = asyncio.current_task(), self._llm
        assert task is not None
        work.begun_at = self._sent[task] = time.perf_counter()
        timed = nullcontext() if work.caller.own else self._metrics.timed("compute")
        try:
            with timed, self._metrics.saturation.busy:
                score = await self._score(work.asked.ids, PRIORITIES[work.caller.priority])
        except asyncio.CancelledError:
            if task.cancelling():
                raise
            return False  # the core died while it was sent
        except EngineDeadError:
            if self._llm is llm:
                self._up.clear()  # what comes now waits for the next core
            return False
        except Exception as error:  # noqa: BLE001  an engine's failure ends here
            settle([work], error=fault_of(error, 1))
        else:
            self._heard_at = time.perf_counter()
            settle([work], scores=np.array([score], np.float32))
            self._metrics.computed(work.tokens)
        finally:
            del self._sent[task]
        return True

    async def _score(self, ids: Sequence[int], priority: int) -> float:
        """The raw logit of one sequence. Cancelled, it is aborted in the core."""
        assert self._llm is not None
        outputs = self._llm.encode(
            TokensPrompt(prompt_token_ids=list(ids)),
            RAW,
            request_id=str(next(self._numbers)),
            priority=priority,
        )
        async for output in outputs:
            found: torch.Tensor = output.outputs.data
        return float(found.reshape(1)[0])

    async def close(self) -> None:
        running = dict(self._running)
        for task in [*self._beside, *running]:
            task.cancel()
        await asyncio.gather(*self._beside, *running, return_exceptions=True)
        held = [work for group in self._suspects for work in group]
        settle([*running.values(), *held], error=EngineFault(STOPPING))
        if self._starting is not None:
            started = await asyncio.gather(self._starting, return_exceptions=True)
            for llm in started:
                if isinstance(llm, AsyncLLM):
                    await asyncio.to_thread(llm.shutdown)


def groups(works: Sequence[Work], size: int) -> list[list[Work]]:
    return [list(works[start : start + size]) for start in range(0, len(works), size)]


def refuse_squashed(
    member: Member, scores: np.ndarray[tuple[int], np.dtype[np.float32]], dtype: str
) -> None:
    """CheckpointError if the scores are what a sigmoid makes of those promised."""
    promised = np.array([probe.score for probe in member.manifest.probes])
    squashed = 1 / (1 + np.exp(-promised))
    off, off_squashed = abs(scores - promised).max(), abs(scores - squashed).max()
    if off_squashed <= probes.TOLERANCE[dtype] < off:
        raise CheckpointError(
            f"{member.name}: its scores went through an activation (probes[0] is {scores[0]:.4f}, "
            f"promised {promised[0]:.4f}); this vLLM does not give raw logits: install one of "
            "plaudit[vllm]"
        )
