"""``plaudit ensemble``: M members that differ in data order, learning rate and dropout.

They share the base and the initial head, which is what makes their weights averageable
(arXiv:2401.12187).
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from plaudit import checkpoint, ensemble
from training import data_files, lineage, linear_probe, outcome, run_directory, settings, workers
from training.plan_progress import PlanBar
from training.settings import HEAD_FILE, EnsemblePlan, SettingsError
from training.shared_files import alone
from training.termination import end_on_sigterm
from training.train import end_together, train

# Between two looks at which members are complete.
WAIT_SECONDS = 2.0


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    end_on_sigterm()  # a member stops where it is; its last saved state stays
    load = settings.load if options.wait else settings.load_to_run
    plan = load(EnsemblePlan, options.plan, options.overrides)
    if options.member is not None:
        run_member(plan, options.member)
    elif options.wait:
        wait(plan)
    elif options.devices or options.parallel:
        return run_beside(plan, options.devices or ["cpu"] * options.parallel)
    else:
        run(plan)
        end_together()
    return 0


def parser() -> argparse.ArgumentParser:
    found = settings.parser_of(EnsemblePlan, "plaudit ensemble", __doc__)
    found.add_argument("plan", type=Path, help="YAML file: the settings of train, and members")
    found.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting")
    how = found.add_mutually_exclusive_group()
    how.add_argument(
        "--devices",
        type=lambda text: text.split(","),
        metavar="cuda:0,cuda:1",
        help="train members in processes of their own, one at a time on each of these",
    )
    how.add_argument(
        "--parallel", type=positive, metavar="N", help="the same in N processes on the CPU"
    )
    how.add_argument("--member", type=int, metavar="I", help="train only this one, from 0")
    how.add_argument("--wait", action="store_true", help="train none: wait till all are complete")
    return found


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of processes")
    return int(text)


def begin(plan: EnsemblePlan) -> str:
    """The digest of the plan, once its directory is known to be its own, and what is still to be
    trained will be trained on the data that the others were."""
    lineage.refuse_strangers(plan.starts)
    digest = run_directory.record(plan)
    if unfinished(plan):
        data_files.record(plan.out, plan, begun=True)
    return digest


def run(plan: EnsemblePlan) -> None:
    """Train the members one after another; complete ones are kept, unfinished ones go on."""
    digest = begin(plan)
    with closing(PlanBar(len(plan.members), hidden=not is_first())) as bar:
        for index in range(len(plan.members)):
            train_member(plan, index, digest, lambda: bar.show(workers.outcomes(plan)))
    write_ensemble(plan)


def run_beside(plan: EnsemblePlan, devices: Sequence[str]) -> int:
    """Train the members in processes of their own; 1 if any failed, after saying which."""
    workers.check_devices(devices)
    digest = begin(plan)
    missing = unfinished(plan)
    failed = workers.run(plan, devices[: len(missing)], missing) if missing else {}
    for index, reason in sorted(failed.items()):
        print(f"{plan.member(index).out}: {reason}", file=sys.stderr)
    close(plan, digest)
    if failed:
        return 1
    write_ensemble(plan)
    return 0


def close(plan: EnsemblePlan, digest: str) -> None:
    """Say complete of each member that is, whatever its process could still say."""
    still = unfinished(plan)
    for index in range(len(plan.members)):
        if index not in still:
            outcome.complete(plan.member(index).out, digest)


def run_member(plan: EnsemblePlan, index: int) -> None:
    """Train one member, beside others that other processes train in the same directory."""
    if not 0 <= index < len(plan.members):
        raise SettingsError(f"--member {index}: the plan has members 0 to {len(plan.members) - 1}")
    train_member(plan, index, begin(plan), lambda: None)
    if not unfinished(plan):
        write_ensemble(plan)


def wait(plan: EnsemblePlan) -> None:
    """Return when every member is complete; a failed one may be started again meanwhile."""
    run_directory.record(plan)
    said = None
    while missing := unfinished(plan):
        if missing != said:
            names = ", ".join(plan.member(index).out.name for index in missing)
            print(f"{plan.out}: waiting for {names}", flush=True)
            said = missing
        time.sleep(WAIT_SECONDS)
    print(f"{plan.out}: {len(plan.members)} members complete", flush=True)


def unfinished(plan: EnsemblePlan) -> list[int]:
    indices = range(len(plan.members))
    return [index for index in indices if not checkpoint.is_complete(plan.member(index).out)]


def train_member(plan: EnsemblePlan, index: int, digest: str, changed: Callable[[], None]) -> None:
    """Train a member, or go on with it, or keep it: one process at a time."""
    member = plan.member(index)
    if not is_first():
        if not checkpoint.is_complete(member.out):
            share_head(plan)
            train(member, resume=True)
        return
    with alone(member.out):
        if checkpoint.is_complete(member.out):
            outcome.complete(member.out, digest)
            changed()
            print(f"{member.out}: complete already", flush=True)
            return
        print(f"member {index + 1} of {len(plan.members)}: {plan.members[index]}", flush=True)
        with outcome.attempt(member.out, digest, changed) as watch:
            share_head(plan)
            train(member, resume=True, watch=watch)


def is_first() -> bool:
    """Of several processes that one launch has started the first keeps the books."""
    return os.environ.get("RANK", "0") == "0"


def share_head(plan: EnsemblePlan) -> None:
    """The probed head of all members: the first to come makes it, each other one makes sure that it
    is of this plan and of the data as they are."""
    if plan.probe is not None:
        linear_probe.probe_head(plan, plan.probe, plan.out / HEAD_FILE)


def write_ensemble(plan: EnsemblePlan) -> None:
    names = [plan.member(index).out.name for index in range(len(plan.members))]
    path = plan.out / ensemble.FILE
    with alone(path):
        if not path.exists():  # it may have been edited
            ensemble.write(path, ensemble.EnsembleFile(names))
    print(f"{path}: {len(names)} members")
