"""The torch engine: models in this process, forwards in a thread of their own."""

import asyncio
import gc
import weakref
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from plaudit import checkpoint, invariance
from plaudit.checkpoint import Manifest
from plaudit.joint_model import Asked, JointModel, hold_once, join
from plaudit.prefix_cache import PrefixCache
from plaudit.reward_model import RewardModel, pick_device
from service import room
from service.batcher import Batcher
from service.fair_queue import Caller
from service.member import Member, Submit, Trunk
from service.metrics import Metrics
from service.settings import Settings
from service.work import Work


@dataclass(frozen=True)
class Seat:
    """Where a member is computed: its place in a joint model."""

    joint: JointModel
    position: int


class TorchEngine:
    """Members in this process, those that share blocks joined; one thread computes for all."""

    name = "torch"

    def __init__(self, settings: Settings, metrics: Metrics):
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._settings, self._metrics = settings, metrics
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self._batcher = Batcher(
            self._thread,
            metrics,
            max_batch_tokens=settings.max_batch_tokens,
            linger_seconds=settings.linger_ms / 1000,
        )
        self._abandoned = False
        self._seats: dict[Submit, Seat] = {}
        self._leaving: list[weakref.finalize[..., Member]] = []
        self._freeing: set[asyncio.Task[None]] = set()
        self.trunks: list[Trunk] = []
        megabytes = settings.prefix_cache_megabytes
        self._prefixes = PrefixCache(round(megabytes * 2**20)) if megabytes else None
        self.dtype = pick_dtype(settings)

    @property
    def numerics(self) -> str:
        settings = self._settings
        parts = [self.name, pick_device(settings.device).type, self.dtype]
        if settings.deterministic:
            parts.append("deterministic")
        if settings.attention == "flex":
            parts.append("flex")
        return "/".join(parts)

    @property
    def ready(self) -> bool:
        return self.hopeless is None

    @property
    def hopeless(self) -> str | None:
        return self._batcher.hopeless(self._settings.hang_seconds)

    async def open(self, models: Mapping[str, Path]) -> dict[str, Member]:
        loop = asyncio.get_running_loop()
        try:
            loaded, joints = await loop.run_in_executor(self._thread, self._load_all, models)
        except asyncio.CancelledError:
            self._abandoned = True  # the thread loads on, since nobody can end it
            raise
        names = {id(model): name for name, model in loaded.items()}
        members: dict[str, Member] = {}
        for joint in joints:
            if joint.shared_blocks:
                self.trunks.append(trunk_of(joint, names))
            members |= self._seat([names[id(model)] for model in joint.members], joint)
        return {name: members[name] for name in loaded}

    def _seat(self, names: Sequence[str], joint: JointModel) -> dict[str, Member]:
        """The members of a joint model, in its order."""
        found = {}
        for position, (name, model) in enumerate(zip(names, joint.members, strict=True)):
            submit = partial(submit_to, self._batcher, joint, position)
            self._seats[submit] = Seat(joint, position)
            found[name] = Member(name, model.manifest, model.revision, model.encoder, submit)
        return found

    async def load(self, name: str, directory: Path) -> Member:
        loop = asyncio.get_running_loop()
        aside = self._aside()
        try:
            joint = await loop.run_in_executor(aside, self._load_beside, directory)
            await loop.run_in_executor(self._thread, self._verify, joint)
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error)) from error
        finally:
            if aside is not self._thread:
                aside.shutdown(wait=False)
        return self._seat([name], joint)[name]

    def _aside(self) -> ThreadPoolExecutor:
        """Where to load while others are scored: in a thread that ends with it, and its OpenMP team
        too. Transformers sets torch's default dtype for the whole process while it builds a model,
        so one that is not torch's own must not meet a forward: that waits its turn."""
        if self.dtype != "float32":
            return self._thread
        return ThreadPoolExecutor(max_workers=1, thread_name_prefix="swap")

    def _load_beside(self, directory: Path) -> JointModel:
        """A model by itself; what equals tensors of those that are open is held once."""
        gc.collect()  # of a model that was refused, as in _free
        room.refuse_too_large(directory, self.dtype, pick_device(self._settings.device))
        manifest, revision = checkpoint.describe(directory, self._settings.max_tokens)
        model = self._open(directory, manifest, revision)
        for seat in [*self._seats.values()]:
            hold_once(seat.joint.members[seat.position].classifier, model.classifier)
        return JointModel(model, self._prefixes)

    def _verify(self, joint: JointModel) -> None:
        joint.verify_probes(self.dtype)
        if self._settings.deterministic:
            invariance.verify(joint)

    def free_when_left(self, member: Member) -> None:
        if self._seats[member.submit].joint.shared_blocks:
            for trunk in [one for one in self.trunks if member.name in one.members]:
                self.trunks.remove(trunk)
                self.trunks += trunk.without(member.name)
        self._leaving = [one for one in self._leaving if one.alive]
        # Whoever is last to refer to it may be in any thread.
        later = asyncio.get_running_loop().call_soon_threadsafe
        self._leaving.append(weakref.finalize(member, later, self._free_soon, member.submit))

    def _free_soon(self, submit: Submit) -> None:
        task = asyncio.create_task(self._free(self._seats.pop(submit)))
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)

    async def _free(self, seat: "Seat") -> None:
        # In the thread of the forwards, so that none runs meanwhile.
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, seat.joint.drop, seat.position)
        del seat
        # Models of Transformers refer to themselves: what is not collected keeps its memory.
        await loop.run_in_executor(self._thread, gc.collect)

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
        with self._metrics.phase("read"):
            manifest, revision = checkpoint.describe(directory, self._settings.max_tokens)
        with self._metrics.phase("load"):
            return self._open(directory, manifest, revision)

    def _open(self, directory: Path, manifest: Manifest, revision: str) -> RewardModel:
        settings = self._settings
        model = RewardModel.open(directory, manifest, revision, settings.device, self.dtype)
        if settings.deterministic:
            model.make_deterministic()
        if settings.attention == "flex":
            model.use_flex_attention()
        return model

    async def close(self) -> None:
        for leaving in self._leaving:  # the loop may be gone before they are
            leaving.detach()
        await asyncio.gather(*self._freeing)
        await self._batcher.close()
        self._thread.shutdown(wait=not self._abandoned, cancel_futures=True)


def trunk_of(joint: JointModel, names: Mapping[int, str]) -> Trunk:
    """Of several joined models; ``names`` by their identity."""
    members = tuple(names[id(model)] for model in joint.members)
    return Trunk(joint.shared_blocks, joint.blocks, members)


def submit_to(
    batcher: Batcher, joint: JointModel, member: int, ids: Sequence[int], caller: Caller
) -> Work:
    return batcher.submit(joint, Asked(member, ids), caller)


def pick_dtype(settings: Settings) -> str:
    """fp32 on a CPU, where exactness costs least; bf16 on a GPU. The head is fp32 in both."""
    if settings.dtype != "auto":
        return settings.dtype
    return "bfloat16" if pick_device(settings.device).type == "cuda" else "float32"
