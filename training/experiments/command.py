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
    raft,
    rrhf,
    strength,
    warm,
)
from training.experiments.result import Result
from training.termination import end_on_sigterm

ALONE: dict[str, Callable[[Path, bool], Result]] = {
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
# They share judges, which are made once under ``--out``.
JUDGED: dict[str, Callable[[Path, bool, Path], Result]] = {
    "dpo": dpo.run,
    "grpo": grpo.run,
    "raft": raft.run,
    "rrhf": rrhf.run,
}
EXPERIMENTS = ALONE.keys() | JUDGED.keys()


def run(name: str, data: Path, quick: bool, out: Path) -> Result:
    if name in ALONE:
        return ALONE[name](data, quick)
    out.mkdir(parents=True, exist_ok=True)
    return JUDGED[name](data, quick, out)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="plaudit experiment", description=__doc__)
    parser.add_argument("name", choices=sorted(EXPERIMENTS))
    parser.add_argument("--data", type=Path, required=True, help="directory of preference data")
    parser.add_argument("--out", type=Path, default=Path("runs/experiments"))
    parser.add_argument("--quick", action="store_true", help="minutes; shows the direction only")
    options = parser.parse_args(argv)
    end_on_sigterm()  # some have a service of their own
    started = time.monotonic()
    found = run(options.name, options.data, options.quick, options.out)
    found.write(options.out, options.name)
    print("\n".join(found.tables))
    seconds = time.monotonic() - started
    print(f"{options.out / options.name}.md, .svg, .json; {seconds:.0f} s", file=sys.stderr)
    for failure in found.failures:
        print(f"not shown: {failure}", file=sys.stderr)
    return 1 if found.failures else 0
