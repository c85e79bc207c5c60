"""The vLLM engine: an in-process ``AsyncLLM`` for each member, token ids in, raw logits out.

vLLM batches, schedules and caches prefixes itself; its forwards run in processes of their own, the
engine core and its workers. A core that dies is started again.
"""

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from vllm import PoolingParams, TokensPrompt
from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.engine.exceptions import EngineDeadError

from plaudit import checkpoint, probes
from plaudit.checkpoint import CheckpointError
from plaudit.conversation import Encoder
from plaudit.joint_model import Asked
from service.fair_queue import Caller, Priority
from service.logs import log
from service.member import Member
from service.metrics import Metrics
from service.problems import Failure
from service.settings import Settings
from service.work import STOPPING, EngineFault, Work, fault_of, settle

# Raw logits: by default vLLM sends a classifier's score through an activation.
RAW = PoolingParams(task="classify", use_activation=False)
# vLLM schedules smaller numbers first.
PRIORITIES: dict[Priority, int] = {"train": 0, "eval": 1, "offline": 2}
RESTART_PAUSE_SECONDS = 5.0
VERIFY_SECONDS = 300.0


class VllmEngine:
    """One core for each member; they share the device's memory in equal parts."""

    name = "vllm"
    trunks = ()  # each core computes its own member

    def __init__(self, settings: Settings, metrics: Metrics):
        self._settings, self._metrics = settings, metrics
        self._cores: list[Core] = []
        self._device: str = current_platform.device_type
        self.dtype = settings.dtype
        if self.dtype == "auto":
            self.dtype = "float32" if self._device == "cpu" else "bfloat16"

    @property
    def numerics(self) -> str:
        return f"{self.name}/{self._device}/{self._settings.tensor_parallel}/{self.dtype}"

    @property
    def ready(self) -> bool:
        return all(core.alive for core in self._cores)

    async def open(self, models: Mapping[str, Path]) -> dict[str, Member]:
        return {name: await self._member(name, path, len(models)) for name, path in models.items()}

    async def load(self, name: str, directory: Path) -> Member:
        """Refused: what the cores leave free of the device's memory is nobody's to count on."""
        raise Failure("swap-unsupported", f"{name}: the vLLM engine loads models at its start only")

    def free_when_left(self, member: Member) -> None:
        """Never called: none is loaded in the place of another."""

    async def _member(self, name: str, directory: Path, count: int) -> Member:
        with self._metrics.phase("read"):
            manifest, revision = await asyncio.to_thread(
                checkpoint.describe, directory, self._settings.max_tokens
            )
        encoder = Encoder.load(directory, manifest.max_tokens)
        arguments = self._arguments(directory, manifest.max_tokens, count)
        core = Core(arguments, self._metrics)
        self._cores.append(core)
        member = Member(name, manifest, revision, encoder, core.submit)
        await core.open(member)
        return member

    def _arguments(self, directory: Path, max_tokens: int, count: int) -> AsyncEngineArgs:
        settings = self._settings
        return AsyncEngineArgs(
            model=str(directory),
            runner="pooling",
            convert="classify",
            skip_tokenizer_init=True,
            trust_remote_code=False,
            dtype=self.dtype,
            hf_overrides={"head_dtype": "float32"},
            max_model_len=max_tokens,
            max_num_batched_tokens=max(settings.max_batch_tokens, max_tokens),
            enable_prefix_caching=True,
            scheduling_policy="priority",
            tensor_parallel_size=settings.tensor_parallel,
            gpu_memory_utilization=settings.vllm_memory / count,
            disable_log_stats=True,
        )

    async def close(self) -> None:
        for core in self._cores:
            await core.close()


class Core:
    """One member's AsyncLLM: scores, forgets what nobody waits for, and comes back after death."""

    def __init__(self, arguments: AsyncEngineArgs, metrics: Metrics):
        self._arguments, self._metrics = arguments, metrics
        self._numbers = itertools.count()
        self._running: dict[asyncio.Task[None], Work] = {}
        self._up = asyncio.Event()
        self._llm: AsyncLLM | None = None
        self._starting: asyncio.Future[AsyncLLM] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        return self._up.is_set() and self._llm is not None and not self._llm.errored

    async def open(self, member: Member) -> None:
        """Start, re-score the probes and keep watch. Raises CheckpointError."""
        with self._metrics.phase("load"):
            await self._start(member)
        self._watching = asyncio.create_task(self._watch(member))

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
        self._up.set()

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
        while True:
            assert self._llm is not None
            await asyncio.wait([self._llm.output_handler])  # it ends with the core
            self._up.clear()
            log.error("engine core died; starting another")
            await asyncio.to_thread(self._llm.shutdown)
            while not self._up.is_set():
                try:
                    await self._start(member)
                except CheckpointError:  # what keeps it down may pass
                    log.exception("engine core did not start")
                    await asyncio.sleep(RESTART_PAUSE_SECONDS)

    def submit(self, ids: Sequence[int], caller: Caller) -> Work:
        """Hand a sequence to vLLM. Abandoned work is aborted there."""
        work = Work(Asked(0, ids), caller, asyncio.get_running_loop().create_future())
        task = asyncio.create_task(self._run(work))
        self._running[task] = work
        task.add_done_callback(self._running.pop)
        work.done.add_done_callback(lambda done: task.cancel() if done.cancelled() else None)
        return work

    async def _run(self, work: Work) -> None:
        llm = None
        try:
            await self._up.wait()
            llm = self._llm
            work.begun_at = time.perf_counter()
            timed = nullcontext() if work.caller.own else self._metrics.timed("compute")
            with timed, self._metrics.saturation.busy:
                score = await self._score(work.asked.ids, PRIORITIES[work.caller.priority])
        except asyncio.CancelledError:  # by close(), or by a core that died while it was sent
            settle([work], error=EngineFault(STOPPING))
            raise
        except Exception as error:  # noqa: BLE001  an engine's failure ends here
            if isinstance(error, EngineDeadError) and self._llm is llm:
                self._up.clear()  # what comes now waits for the next core
            settle([work], error=fault_of(error, 1))
        else:
            settle([work], scores=np.array([score], np.float32))
            self._metrics.computed(work.tokens)

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
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        running = dict(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        settle(list(running.values()), error=EngineFault(STOPPING))
        if self._starting is not None:
            started = await asyncio.gather(self._starting, return_exceptions=True)
            for llm in started:
                if isinstance(llm, AsyncLLM):
                    await asyncio.to_thread(llm.shutdown)


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
