"""The engines. What vLLM reads from the environment at its import is set here, before that."""

import os

# Nothing is reported to anyone.
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
# This process has threads by the time a core is started, which a fork would break.
os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
