"""The torch engine: models in this process, forwards in a thread of their own."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import torch

from plaudit import checkpoint, invariance
from plaudit.joint_model import Asked, JointModel, join
from plaudit.prefix_cache import PrefixCache
from plaudit.reward_model import RewardModel, pick_device
from service.batcher import Batcher
from service.fair_queue import Caller
from service.member import Member, Submit, Trunk
from service.metrics import Metrics
from service.settings import Settings
from service.work import Work


class TorchEngine:
    """Members in this process, those that share blocks joined; one thread computes for all."""

    name = "torch"
    ready = True

    def __init__(self, settings: Settings, metrics: Metrics):
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._settings, self._metrics = settings, metrics
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._batchers: list[Batcher] = []
        self.trunks: list[Trunk] = []
        megabytes = settings.prefix_cache_megabytes
        self._prefixes = PrefixCache(round(megabytes * 2**20)) if megabytes else None
        self.dtype = pick_dtype(settings)

    @property
    def numerics(self) -> str:
        mode = "/deterministic" if self._settings.deterministic else ""
        return f"{self.name}/{pick_device(self._settings.device).type}/{self.dtype}{mode}"

    async def open(self, models: Mapping[str, Path]) -> dict[str, Member]:
        loop = asyncio.get_running_loop()
        loaded, joints = await loop.run_in_executor(self._thread, self._load_all, models)
        names = {id(model): name for name, model in loaded.items()}
        submit: dict[int, Submit] = {}
        for joint in joints:
            if joint.shared_blocks:
                self.trunks.append(trunk_of(joint, names))
            batcher = self._batcher(joint)
            self._batchers.append(batcher)
            for position, model in enumerate(joint.members):
                submit[id(model)] = partial(submit_to, batcher, position)
        return {
            name: Member(name, model.manifest, model.revision, model.encoder, submit[id(model)])
            for name, model in loaded.items()
        }

    def _load_all(
        self, models: Mapping[str, Path]
    ) -> tuple[dict[str, RewardModel], list[JointModel]]:
        """Load by name, join what shares blocks, and verify; CheckpointError.

        In the engine's thread, as every forward: OpenMP keeps a team for each thread that ever
        computed, and with more threads in teams than cores none of them spins at a barrier any more
        (GNU libgomp), which cost a fifth of the speed.
        """

        loaded: dict[str, RewardModel] = {}

        def loading() -> Iterator[RewardModel]:
            for name, path in models.items():
                loaded[name] = self._load(path)
                yield loaded[name]

        # Each gives up shared blocks before the next is loaded.
        joints = join(loading(), self._prefixes)
        for joint in joints:
            with self._metrics.phase("probes"):
                joint.verify_probes(self.dtype)
            if self._settings.deterministic:
                with self._metrics.phase("invariance"):
                    invariance.verify(joint)
        return loaded, joints

    def _load(self, directory: Path) -> RewardModel:
        settings = self._settings
        with self._metrics.phase("read"):
            manifest, revision = checkpoint.describe(directory, settings.max_tokens)
        with self._metrics.phase("load"):
            model = RewardModel.open(directory, manifest, revision, settings.device, self.dtype)
        if settings.deterministic:
            model.make_deterministic()
        return model

    def _batcher(self, model: JointModel) -> Batcher:
        settings = self._settings
        return Batcher(
            model,
            self._thread,
            self._metrics,
            max_batch_tokens=settings.max_batch_tokens,
            linger_seconds=settings.linger_ms / 1000,
        )

    async def close(self) -> None:
        for batcher in self._batchers:
            await batcher.close()
        self._thread.shutdown(wait=True, cancel_futures=True)


def trunk_of(joint: JointModel, names: Mapping[int, str]) -> Trunk:
    """Of several joined models; ``names`` by their identity."""
    members = tuple(names[id(model)] for model in joint.members)
    return Trunk(joint.shared_blocks, joint.blocks, members)


def submit_to(batcher: Batcher, member: int, ids: Sequence[int], caller: Caller) -> Work:
    return batcher.submit(Asked(member, ids), caller)


def pick_dtype(settings: Settings) -> str:
    """fp32 on a CPU, where exactness costs least; bf16 on a GPU. The head is fp32 in both."""
    if settings.dtype != "auto":
        return settings.dtype
    return "bfloat16" if pick_device(settings.device).type == "cuda" else "float32"
