"""``plaudit bench``: how fast a server answers at which rate, with requests that wait for nobody.

Requests are sent at their own times, whatever the server does (open loop), and a latency counts
from the time that was intended. The report says where the knee is.
"""

import argparse
import asyncio
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import get_args

from plaudit.version import VERSION
from plaudit.whole_file import write_whole
from plaudit.wire import Truncation
from service.bench import calibration, knee, page, report
from service.bench.arrivals import Arrivals
from service.bench.report import HEAD, Report
from service.bench.run import Run
from service.bench.sending import Sender
from service.bench.summary import RateResult
from service.bench.texts import BenchError, generated, read
from service.bench.workload import MADE, Bodies, Kind, Shape, Target, of_file

KEY = "PLAUDIT_CLIENT_API_KEY"
WIDTHS = (8, 10, 9, 10, 8, 8, 8, 8, 8, 8)


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    check(options)
    try:
        found = asyncio.run(bench(options, shlex.join(["plaudit", "bench", *argv])))
    except KeyboardInterrupt:
        print("plaudit bench: interrupted, so there is no report", file=sys.stderr)
        return 130
    json, html = (options.out.with_name(options.out.name + end) for end in (".json", ".html"))
    write_whole(json, report.encode(found))
    write_whole(html, page.render(found).encode())
    print(report.verdict(found))
    print(f"report: {json}, {html}")
    if not found.valid:
        print("some rates are invalid: see INVALID above", file=sys.stderr)
        return 1
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="plaudit bench",
        allow_abbrev=False,
        description=__doc__,
        epilog=f"The key of a server is read from {KEY}. Exit status: 0, 1 where some rate was "
        "too much for the generator itself or came from the cache, 2 for bad input",
    )
    found.add_argument("url", help="of a server, http://127.0.0.1:8000")
    load_flags(found.add_argument_group("load"))
    text_flags(found.add_argument_group("texts"))
    found.add_argument(
        "--slo-ms", type=positive, default=1000.0, help="limit of p99; default: %(default)g"
    )
    found.add_argument(
        "--max-errors", type=float, default=0.001,
        help="share of requests that may fail at a rate that holds; default: %(default)g",
    )  # fmt: skip
    found.add_argument(
        "--out", type=Path, default=Path("plaudit-bench"), metavar="NAME",
        help="writes NAME.json and NAME.html; default: %(default)s",
    )  # fmt: skip
    return found


def load_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--rates", type=positive, nargs="+", default=[1.0], metavar="RATE",
        help="requests a second, one run each; default: 1",
    )  # fmt: skip
    group.add_argument(
        "--find-knee", action="store_true",
        help="begin at the first of --rates and raise it until p99 is over --slo-ms, or requests "
        "fail; then look for the highest that holds",
    )  # fmt: skip
    group.add_argument(
        "--seconds", type=positive, default=10.0, help="of each rate; default: %(default)g"
    )
    group.add_argument(
        "--warmup-seconds", type=float, default=2.0,
        help="at the first rate, not counted; default: %(default)g",
    )  # fmt: skip
    group.add_argument(
        "--arrivals", choices=get_args(Arrivals), default="poisson",
        help="many callers that know nothing of each other, or even gaps; default: %(default)s",
    )  # fmt: skip
    group.add_argument(
        "--seed", type=int, default=0,
        help="of arrivals and of generated texts' lengths; the texts are new in each run",
    )  # fmt: skip
    group.add_argument(
        "--timeout-seconds", type=positive, default=30.0,
        help="after which a request has failed, said to the server too; default: %(default)g",
    )  # fmt: skip


def text_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--workload", choices=get_args(Kind), default="groups",
        help="groups: rollouts, several prompts with several responses in a request; single: one "
        "item; repeats: one of a few items, which caches know; default: %(default)s",
    )  # fmt: skip
    group.add_argument("--groups", type=count, default=16, help="prompts in a request; %(default)s")
    group.add_argument("--responses", type=count, default=16, help="of each prompt; %(default)s")
    group.add_argument("--distinct", type=count, default=16, help="items of repeats; %(default)s")
    group.add_argument(
        "--data", type=Path, metavar="FILE",
        help="JSON lines with prompt and response (or responses), sent as they are, over and over",
    )  # fmt: skip
    group.add_argument(
        "--prompt-tokens", type=count, default=200, help="of generated texts; %(default)s"
    )
    group.add_argument(
        "--response-tokens", type=count, default=200, help="of generated texts; %(default)s"
    )
    group.add_argument("--model", help="of a server that has several")
    group.add_argument("--ensemble", metavar="NAME", help="ask /ensemble_score for it")
    group.add_argument("--truncation", choices=get_args(Truncation), default="error")


def positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above zero")
    return value


def count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def check(options: argparse.Namespace) -> None:
    if options.model and options.ensemble:
        raise BenchError("--model is of /score and --ensemble of /ensemble_score: leave out one")
    if options.find_knee and len(options.rates) > 1:
        raise BenchError("--find-knee begins at one rate: give a single one to --rates")
    if not 0 <= options.max_errors < 1:
        raise BenchError("--max-errors is a share, from 0 to below 1")
    if not options.out.resolve().parent.is_dir():
        raise BenchError(f"--out {options.out}: no such directory: mkdir -p {options.out.parent}")


async def bench(options: argparse.Namespace, command: str) -> Report:
    sender = Sender(options.url, os.environ.get(KEY), options.timeout_seconds)
    try:
        return await measure(options, sender, command)
    finally:
        await sender.close()


async def measure(options: argparse.Namespace, sender: Sender, command: str) -> Report:
    models = await sender.models()
    began = datetime.now(UTC).isoformat(timespec="seconds")
    shape = Shape(options.workload, options.groups, options.responses, options.distinct)
    target = Target(options.model, options.ensemble, options.truncation)
    run = Run(options, sender, target.path, await bodies(options, sender, shape, target))
    await run.check_one()
    print(f"{sender.url}{target.path}, {shape.describe()}", flush=True)
    await run.warm_up()
    print("".join(f"{name:>{width}}" for name, width in zip(HEAD, WIDTHS, strict=True)), flush=True)
    return Report(
        command=command.replace(options.url, sender.url),
        plaudit=VERSION,
        url=sender.url,
        began=began,
        models=models,
        route=target.path,
        workload=shape.describe(),
        data=None if options.data is None else str(options.data),
        tokens=None if options.data else (options.prompt_tokens, options.response_tokens),
        arrivals=options.arrivals,
        seed=options.seed,
        warmup_seconds=options.warmup_seconds,
        slo_ms=options.slo_ms,
        most_errors=options.max_errors,
        knee=await rates(options, run),
        rates=sorted(run.results, key=lambda one: one.offered),
    )


async def bodies(
    options: argparse.Namespace, sender: Sender, shape: Shape, target: Target
) -> Bodies:
    run = token_hex(4)
    if options.data is not None:
        return of_file(shape, target, read(options.data), run)
    words = await calibration.words(sender, target, options.prompt_tokens, options.response_tokens)
    made = shape.distinct if shape.kind == "repeats" else MADE
    texts = generated(*words, options.responses, options.seed)
    return Bodies(shape, target, texts, made, run)


async def rates(options: argparse.Namespace, run: Run) -> knee.Knee:
    async def one(rate: float) -> RateResult:
        result = await run.rate(rate)
        show(result)
        return result

    if options.find_knee:
        return await knee.find(one, options.rates[0], options.slo_ms, options.max_errors)
    results = [await one(rate) for rate in options.rates]
    return knee.of_rates(results, options.slo_ms, options.max_errors)


def show(result: RateResult) -> None:
    row = report.cells(result)
    print("".join(f"{cell:>{width}}" for cell, width in zip(row, WIDTHS, strict=True)))
    for remark in report.remarks(result):
        print(f"          {remark}")
    sys.stdout.flush()
