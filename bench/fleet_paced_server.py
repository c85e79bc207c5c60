"""``plaudit serve`` whose forwards take the time that the fitted costs say, and compute nothing.

    python bench/fleet_paced_server.py COSTS.json MODEL [flags of plaudit serve]

All but the forward is the service: HTTP, template, admission, queue, batches. So a machine with
other work besides keeps the pace, and the simulation can be held against the service's queue.
"""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from fleet_replica import Costs

from plaudit.cli import main
from plaudit.joint_model import Asked, Computed, JointModel
from plaudit.packing import pack

if __name__ == "__main__":
    costs = Costs.read(Path(sys.argv[1]))

    def compute(self: JointModel, asked: Sequence[Asked], remember: bool = True) -> Computed:
        began = time.perf_counter()
        tokens = len(pack([one.ids for one in asked]).ids)
        spent = time.perf_counter() - began
        time.sleep(max(0.0, costs.of(tokens, len(asked)) - spent))
        return Computed(np.zeros(len(asked), np.float32), tokens, 0)

    JointModel.compute = compute  # type: ignore[method-assign]
    sys.exit(main(["serve", *sys.argv[2:]]))
