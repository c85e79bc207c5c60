"""Members of a plan in processes of their own, one at a time on each device."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from plaudit import checkpoint
from training import outcome, run_directory
from training.plan_progress import PlanBar
from training.settings import EnsemblePlan, SettingsError

LOG = "log.txt"
# Between two looks at what the members have written.
LOOK_SECONDS = 0.5
# For a member to end by itself, then it is killed.
GRACE_SECONDS = 10.0


@dataclass
class Workers:
    """What runs on which device, and what is still to run."""

    plan: EnsemblePlan
    free: list[str]
    waiting: list[int]
    threads: int
    running: dict[int, tuple[subprocess.Popen[bytes], str]] = field(default_factory=dict)
    failed: dict[int, int] = field(default_factory=dict)

    def start(self) -> None:
        """A member on each free device."""
        while self.free and self.waiting:
            index, device = self.waiting.pop(0), self.free.pop(0)
            directory = self.plan.member(index).out
            directory.mkdir(parents=True, exist_ok=True)
            outcome.forget_error(directory)
            with (directory / LOG).open("ab") as log:
                process = subprocess.Popen(
                    command(self.plan, index),
                    env=os.environ | environment(device, self.threads),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            self.running[index] = process, device

    def collect(self) -> None:
        """Members that have ended give their device back."""
        for index, (process, device) in list(self.running.items()):
            status = process.poll()
            if status is None:
                continue
            del self.running[index]
            self.free.append(device)
            if status != 0:
                self.failed[index] = status

    def end(self) -> None:
        for process, _ in self.running.values():
            process.terminate()
        for process, _ in self.running.values():
            try:
                process.wait(GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def run(plan: EnsemblePlan, devices: Sequence[str], indices: Sequence[int]) -> dict[int, str]:
    """Train these members; those that failed, with the reason. One failure does not end the others.
    A member that is sealed has not failed, however its process ended.

    The members end with this process where it can end them: by an exception, Ctrl-C or SIGTERM.
    """
    threads = max(1, torch.get_num_threads() // len(devices))
    workers = Workers(plan, list(devices), list(indices), threads)
    bar = PlanBar(len(plan.members))
    try:
        while workers.waiting or workers.running:
            workers.start()
            time.sleep(LOOK_SECONDS)
            workers.collect()
            bar.show(outcomes(plan))
    finally:
        workers.end()
        bar.close()
    sealed = [one for one in workers.failed if checkpoint.is_complete(plan.member(one).out)]
    for index in sealed:
        out = plan.member(index).out
        print(f"{out}: complete, its process {ended(workers.failed[index])} after its seal; "
              f"its last words are in {out / LOG}", file=sys.stderr)  # fmt: skip
    return {
        index: reason(plan, index, status)
        for index, status in workers.failed.items()
        if index not in sealed
    }


def command(plan: EnsemblePlan, index: int) -> list[str]:
    recorded = plan.out / run_directory.FILE
    # The directory may have been moved. Unescaped: YAML reads no pair of surrogates.
    here = f"out={json.dumps(str(plan.out), ensure_ascii=False)}"
    module = [sys.executable, "-m", "plaudit.cli"]
    return [*module, "ensemble", str(recorded), here, "--member", str(index)]


def environment(device: str, threads: int) -> dict[str, str]:
    """Shows a process its device alone, and its share of the processor."""
    share = {"OMP_NUM_THREADS": str(threads)}
    if device == "cpu":
        return share | {"CUDA_VISIBLE_DEVICES": ""}
    number = int(device.removeprefix("cuda:"))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return share | {"CUDA_VISIBLE_DEVICES": visible.split(",")[number] if visible else str(number)}


def check_devices(devices: Sequence[str]) -> None:
    """Refuse what is no device of this machine, and a GPU that is named twice."""
    for device in devices:
        kind, _, number = device.partition(":")
        known = device == "cpu" or (kind == "cuda" and number.isdigit())
        if not known:
            raise SettingsError(f"--devices: {device!r} is no device; write cuda:0,cuda:1 or cpu")
        if kind == "cuda" and int(number) >= torch.cuda.device_count():
            raise SettingsError(
                f"--devices: no {device} here, where torch sees {torch.cuda.device_count()} GPUs"
            )
        if kind == "cuda" and devices.count(device) > 1:
            raise SettingsError(f"--devices: {device} is named twice; two members share no GPU")


def outcomes(plan: EnsemblePlan) -> list[outcome.Outcome | None]:
    return [outcome.read(plan.member(index).out) for index in range(len(plan.members))]


def reason(plan: EnsemblePlan, index: int, status: int) -> str:
    """The member's own sentence, or how its process ended; that is recorded then."""
    directory = plan.member(index).out
    found = outcome.read(directory)
    if found is not None and found.error is not None:
        return found.error
    sentence = f"{ended(status)}; its last words are in {directory / LOG}"
    if found is not None:
        outcome.fail(directory, found, sentence)
    return sentence


def ended(status: int) -> str:
    return f"ended by {signal.Signals(-status).name}" if status < 0 else f"ended with {status}"
