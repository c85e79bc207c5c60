"""``plaudit ensemble``: M members that differ in data order, learning rate and dropout.

They share the base and the initial head, which is what makes their weights averageable
(arXiv:2401.12187).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from plaudit import checkpoint, ensemble
from training import settings
from training.settings import EnsemblePlan
from training.train import describe, train


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="plaudit ensemble",
        description=__doc__,
        epilog="\n".join(describe(EnsemblePlan)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("plan", type=Path, help="YAML file: the settings of train, and members")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")
    options = parser.parse_args(argv)
    run(settings.load(EnsemblePlan, options.plan, options.overrides))
    return 0


def run(plan: EnsemblePlan) -> None:
    """Train the members one after another; complete ones are kept, unfinished ones go on."""
    names = []
    for index in range(len(plan.members)):
        member = plan.member(index)
        names.append(member.out.name)
        if checkpoint.is_complete(member.out):
            print(f"{member.out}: complete already", flush=True)
            continue
        print(f"member {index + 1} of {len(plan.members)}: {plan.members[index]}", flush=True)
        train(member, resume=True)
    path = plan.out / ensemble.FILE
    ensemble.write(path, ensemble.EnsembleFile(names))
    print(f"{path}: {len(names)} members")
