"""The torch engine: models in this process, forwards in a thread of their own."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from plaudit.joint_model import JointModel
from plaudit.reward_model import RewardModel, pick_device
from service.batcher import Batcher
from service.metrics import Metrics
from service.settings import Settings

NAME = "torch"


class TorchEngine:
    """Loads members and makes the batchers of joint models; one thread computes for all of them."""

    def __init__(self, settings: Settings, metrics: Metrics):
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self._settings, self._metrics = settings, metrics
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        self.dtype = pick_dtype(settings)

    @property
    def numerics(self) -> str:
        """What besides the revision changes a score's last digits: part of every cache key."""
        return f"{NAME}/{pick_device(self._settings.device).type}/{self.dtype}"

    def load(self, directory: Path) -> RewardModel:
        """A model whose files are verified. Blocks; raises CheckpointError."""
        settings = self._settings
        return RewardModel.load(directory, settings.device, self.dtype, settings.max_tokens)

    def batcher(self, model: JointModel) -> Batcher:
        """A batcher, if the probes get their stored scores. Blocks; raises CheckpointError."""
        model.verify_probes(self.dtype)
        settings = self._settings
        return Batcher(
            model,
            self._thread,
            self._metrics,
            max_batch_tokens=settings.max_batch_tokens,
            linger_seconds=settings.linger_ms / 1000,
        )

    def close(self) -> None:
        self._thread.shutdown(wait=True, cancel_futures=True)


def pick_dtype(settings: Settings) -> str:
    """fp32 on a CPU, where exactness costs least; bf16 on a GPU. The head is fp32 in both."""
    if settings.dtype != "auto":
        return settings.dtype
    return "bfloat16" if pick_device(settings.device).type == "cuda" else "float32"
