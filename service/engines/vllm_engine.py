"""The vLLM engine: an in-process ``AsyncLLM`` for each member, token ids in, raw logits out.

vLLM batches, schedules and caches prefixes itself; its forwards run in processes of their own, the
engine core and its workers. A core that dies is started again.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from vllm.engine.arg_utils import AsyncEngineArgs
from vllm.platforms import current_platform

from plaudit import checkpoint
from plaudit.conversation import Encoder
from service.engines.vllm_core import Core
from service.member import Member
from service.metrics import Metrics
from service.problems import Failure
from service.settings import Settings


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

    @property
    def hopeless(self) -> str | None:
        return next((why for core in self._cores if (why := core.hopeless) is not None), None)

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
        core = Core(arguments, self._metrics, self._settings.hang_seconds)
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
