"""``plaudit experiment``: a method on real preferences, one table and one figure."""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from training.experiments import (
    contrastive,
    dpo,
    grpo,
    kcenter,
    kwise,
    length,
    lmc,
    meta,
    objectives,
    overoptimise,
    strength,
    warm,
)
from training.experiments.result import Result

EXPERIMENTS: dict[str, Callable[[Path, bool], Result]] = {
    "contrastive": contrastive.run,
    "kcenter": kcenter.run,
    "kwise": kwise.run,
    "length": length.run,
    "lmc": lmc.run,
    "meta": meta.run,
    "objectives": objectives.run,
    "overoptimise": overoptimise.run,
    "strength": strength.run,
    "warm": warm.run,
}
# Of policies: their judges are made under ``--out``, once for all.
OF_POLICIES: dict[str, Callable[[Path, Path, bool], Result]] = {
    "dpo": dpo.run,
    "grpo": grpo.run,
}


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="plaudit experiment", description=__doc__)
    parser.add_argument("name", choices=sorted(EXPERIMENTS | OF_POLICIES))
    parser.add_argument("--data", type=Path, required=True, help="directory of preference data")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--quick", action="store_true", help="minutes; shows the direction only")
    options = parser.parse_args(argv)
    started = time.monotonic()
    if options.name in OF_POLICIES:
        found = OF_POLICIES[options.name](options.data, options.out, options.quick)
    else:
        found = EXPERIMENTS[options.name](options.data, options.quick)
    found.write(options.out, options.name)
    print("\n".join(found.tables))
    seconds = time.monotonic() - started
    print(f"{options.out / options.name}.md, .svg, .json; {seconds:.0f} s", file=sys.stderr)
    for failure in found.failures:
        print(f"not shown: {failure}", file=sys.stderr)
    return 1 if found.failures else 0
