"""Programs that look at one thing of a model in a process of their own, with limits."""

import subprocess
import sys

# On a busy machine a process may wait long for its CPU time.
PATIENCE_SECONDS = 60.0
# A thread for each core would take more memory than there is under a limit.
ENVIRONMENT = {"RAYON_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


def run(program: str, asked: str, cpu_seconds: int, memory_bytes: int) -> str:
    """What ``program``, which sets these limits for itself, writes when it is given ``asked``."""
    command = [sys.executable, "-I", program]
    try:
        done = subprocess.run(
            command, input=asked.encode(), capture_output=True, timeout=PATIENCE_SECONDS,
            check=False, env=ENVIRONMENT,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"is not done in {PATIENCE_SECONDS:g} seconds"
    if done.returncode == 0:
        return done.stdout.decode()
    return f"is not done with {cpu_seconds} s of CPU time and {memory_bytes >> 20} MB"
