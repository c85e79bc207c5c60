"""How large a fleet must be: simulated replicas, routes and autoscaling at measured costs.

    python bench/fleet.py [--costs bench/fleet_costs.json] [--faster 1] [--plots docs/images]

Prints the tables of docs/scaling.md and draws its figures. A burst is a step of synchronous RL:
512 prompts with 8 responses each, all at once, every two minutes. ``--faster 50`` sizes a fleet of
machines that do everything 50 times as fast as the one that was measured.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from fleet_replica import Costs, Limits
from fleet_routes import least_loaded, routes
from fleet_run import Fleet, Seen, run
from fleet_scaling import Scaling
from fleet_traffic import Bursts
from matplotlib import rc_context
from matplotlib.figure import Figure

REPLICAS = [2, 4, 8, 16, 32, 64]
STEP = Bursts(bursts=4)
SPLIT = replace(STEP, a_request=1)
SPREAD = replace(SPLIT, spread_seconds=90.0)
AGAIN = replace(STEP, repeated=0.3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--costs", type=Path, default=Path(__file__).with_name("fleet_costs.json"))
    parser.add_argument("--faster", type=float, default=1.0)
    parser.add_argument("--plots", type=Path, help="folder for fleet-*.svg")
    options = parser.parse_args()
    costs = Costs.read(options.costs).faster(options.faster)
    machine = json.loads(options.costs.read_text())["machine"]
    print(f"A replica is {machine}, {options.faster:g} times as fast.\n")
    sizes = size_table(costs)
    route_tables(costs)
    cache_table(costs)
    scaled = scaling_table(costs)
    if options.plots:
        draw_sizes(sizes, options.plots / "fleet-replicas.svg")
        draw_scaling(scaled, options.plots / "fleet-autoscaling.svg")


def through(costs: Costs, name: str, traffic: Bursts, replicas: int, shared: bool = False) -> Seen:
    fleet = Fleet(costs, Limits(), routes()[name], shared)
    return run(fleet, replicas, [*traffic.requests()])


def table(columns: str) -> None:
    print(f"\n{columns}\n{'|'.join([''] + ['---'] * (columns.count('|') - 1) + [''])}")


def size_table(costs: Costs) -> dict[str, list[Seen]]:
    """Replicas against what a step waits, whole groups and one response a request."""
    table(
        "| replicas | groups whole: step, p50, p99 s | busy | split, at random | split, by prompt |"
    )
    found: dict[str, list[Seen]] = {"whole": [], "split, at random": [], "split, by prompt": []}
    for count in REPLICAS:
        whole = through(costs, "least loaded", STEP, count)
        apart = through(costs, "at random", SPLIT, count)
        prompt = through(costs, "by prompt", SPLIT, count)
        for name, seen in zip(found, (whole, apart, prompt), strict=True):
            found[name].append(seen)
        print(
            f"| {count} | {whole.step:.1f}, {whole.p50:.1f}, {whole.p99:.1f} "
            f"| {whole.utilisation:.0%} | {apart.step:.1f} | {prompt.step:.1f} |"
        )
    return found


def route_tables(costs: Costs, replicas: int = 16) -> None:
    """Routes at one size, for three ways of sending a step."""
    traffics = {"whole groups": STEP, "one a request": SPLIT, "one a request, over 90 s": SPREAD}
    for label, traffic in traffics.items():
        table(
            f"| {label} | computed of asked tokens | step s | p50 s | p99 s | busiest over mean |"
        )
        for name in routes():
            seen = through(costs, name, traffic, replicas)
            busy = [tally.busy_seconds for tally in seen.tallies]
            uneven = max(busy) * len(busy) / sum(busy)
            print(
                f"| {name} | {seen.computed:.2f} | {seen.step:.1f} | {seen.p50:.1f} "
                f"| {seen.p99:.1f} | {uneven:.2f} |"
            )


def cache_table(costs: Costs, replicas: int = 16) -> None:
    table("| three in ten groups asked again | own caches find | step s | Redis finds | step s |")
    for name in routes():
        own, redis = (through(costs, name, AGAIN, replicas, shared) for shared in (False, True))
        print(
            f"| {name} | {own.cached:.0%} | {own.step:.1f} "
            f"| {redis.cached:.0%} | {redis.step:.1f} |"
        )


# A step each five minutes; the fleet may grow from 2 to 16.
SLOW = Bursts(bursts=8, every_seconds=300.0)
BASE = Scaling(most=16)
PACES: dict[str, Scaling | int] = {
    "2 replicas always": 2,
    "8 replicas always": 8,
    "16 replicas always": 16,
    "2 more a minute, ready in 60 s": BASE,
    "all at once, ready in 60 s": replace(BASE, up=14),
    "all at once, ready in 300 s": replace(BASE, up=14, ready_seconds=300.0),
    "all at once, shrinks after 60 s": replace(
        BASE, up=14, stable_seconds=60.0, down=14, down_every=60.0
    ),
    "all at once, looks every 5 s, no mean": replace(
        BASE, up=14, look_seconds=5.0, average_seconds=5.0
    ),
}


def scaling_table(costs: Costs) -> dict[str, Seen]:
    table("| fleet | first step s | second | last | replica-hours a step | most replicas |")
    found = {}
    for name, pace in PACES.items():
        fleet = Fleet(costs, Limits(), least_loaded)
        bursts = [*SLOW.requests()]
        if isinstance(pace, int):
            seen = run(fleet, pace, bursts)
        else:
            seen = run(fleet, pace.least, bursts, pace)
        found[name] = seen
        hours = seen.replica_seconds / 3600 / len(bursts)
        first, second, *_, last = seen.steps
        print(
            f"| {name} | {first:.0f} | {second:.0f} | {last:.0f} | {hours:.2f} "
            f"| {seen.most_replicas} |"
        )
    return found


def draw_sizes(found: dict[str, list[Seen]], path: Path) -> None:
    figure = Figure(figsize=(7, 3.6), layout="constrained")
    axis = figure.subplots()
    for name, seen in found.items():
        axis.loglog(REPLICAS, [one.step for one in seen], "o-", base=2, label=name)
    axis.set(xlabel="replicas", ylabel="seconds until a step is answered")
    axis.legend()
    axis.grid(alpha=0.3)
    save(figure, path)


def draw_scaling(found: dict[str, Seen], path: Path) -> None:
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axis = figure.subplots()
    for name, seen in found.items():
        axis.plot(range(1, len(seen.steps) + 1), seen.steps, "o-", label=name)
    axis.set(xlabel="step", ylabel="seconds until it is answered", yscale="log")
    axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    axis.grid(alpha=0.3)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Without date and chance, so that the same figures give the same file."""
    path.parent.mkdir(exist_ok=True)
    with rc_context({"svg.hashsalt": path.stem}):
        figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
