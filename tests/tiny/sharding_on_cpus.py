"""``plaudit`` as a process of an FSDP or DeepSpeed launch on a machine without GPUs.

Accelerate leaves both out for processes on CPUs, though they work there, over gloo. Such processes
pass for others here; the sharding is torch's and DeepSpeed's own.
"""

import os
import sys

from accelerate.state import PartialState
from accelerate.utils import DistributedType

from plaudit.cli import main

initialise = PartialState.__init__


def initialise_for_shards(state: PartialState, *args: object, **options: object) -> None:
    initialise(state, *args, **options)
    if state.distributed_type != DistributedType.MULTI_CPU:
        return  # not the first
    kind = DistributedType.MULTI_GPU
    if os.environ.get("ACCELERATE_USE_DEEPSPEED") == "true":
        from deepspeed import comm

        comm.init_distributed("gloo", auto_mpi_discovery=False)
        kind = DistributedType.DEEPSPEED
    PartialState._shared_state["distributed_type"] = kind


PartialState.__init__ = initialise_for_shards
sys.exit(main())
