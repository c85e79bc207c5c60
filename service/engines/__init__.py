"""The engines. What vLLM reads from the environment at its import is set here, before that."""

import os

# Nothing is reported to anyone.
os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
# This process has threads by the time a core is started, which a fork would break.
os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")
# An engine's processes are all on this machine, and meet on loopback: else on the address that the
# machine's name resolves to.
os.environ.setdefault("VLLM_HOST_IP", "127.0.0.1")
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")
