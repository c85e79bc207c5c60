"""``plaudit swap``: other checkpoints in the place of those that are served."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TypeVar

import httpx2
import msgspec

from plaudit.wire import Problem
from service import swap_text
from service.admin_client import AdminClient, NoPlaudit
from service.key_sources import OF_SWAP_COMMAND as VARIABLE
from service.origins import ListedModels
from service.swap_request import Exchange, Limits, ShadowPlan, SwapRequest
from service.swap_state import SwapView

T = TypeVar("T")
# Between two looks at a comparison.
LOOK_SECONDS = 1.0


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    key = os.environ.get(VARIABLE)
    if not key:
        return complain(f"no key: export {VARIABLE}=… with a key of the server's --admin-keys")
    try:
        with AdminClient(options.url, key) as client:
            return act(client, options)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return complain(
            f"{options.url}: {error or type(error).__name__}; name the admin port of a server that "
            "runs, http://HOST:9090"
        )
    except (NoPlaudit, ValueError) as error:
        return complain(str(error))


def act(client: AdminClient, options: argparse.Namespace) -> int:
    """Do what is asked for, and say it; the exit status."""
    if options.list:
        return told(client.models(), options.json)
    if options.cancel:
        return told(client.cancel(), options.json)
    answer = client.swap(asked(options))
    if isinstance(answer, SwapView) and answer.state == "comparing":
        print(swap_text.begun(answer), file=sys.stderr)
        answer = client.ended(answer.id, LOOK_SECONDS)
    return told(answer, options.json)


def asked(options: argparse.Namespace) -> SwapRequest:
    """ValueError, in words, for what the server would not take either."""
    shadow = given("--shadow", options.shadow, ShadowPlan)
    require = given("--require", options.require, Limits)
    if options.model is None or options.checkpoint is None:
        raise ValueError("name a MODEL and a CHECKPOINT, or --list, or --cancel")
    if not options.also:
        return SwapRequest(options.model, options.checkpoint, shadow=shadow, require=require)
    pairs = [(options.model, options.checkpoint), *options.also]
    exchanges = [Exchange(model, checkpoint) for model, checkpoint in pairs]
    return SwapRequest(swaps=exchanges, shadow=shadow, require=require)


def given(flag: str, text: str | None, kind: type[T]) -> T | None:
    """Of NAME=NUMBER,NAME=NUMBER."""
    if text is None:
        return None
    parts = [part.partition("=") for part in text.split(",") if part]
    try:
        numbers = {name: msgspec.json.decode(number, type=int | float) for name, _, number in parts}
        return msgspec.convert(numbers, kind)
    except msgspec.MsgspecError as error:
        raise ValueError(f"{flag} {text}: {error}; write NAME=NUMBER,NAME=NUMBER") from None


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="plaudit swap",
        description="Serve another checkpoint under the name of a loaded model, without a restart. "
        "What was asked before is answered by the old one.",
        epilog=f"{VARIABLE} has a key of the server's --admin-keys. Exit status: 0 swapped or "
        "compared, 1 refused or cancelled, which changes nothing, 2 for bad input or no server",
    )
    found.add_argument("url", metavar="URL", help="admin port of the server, http://HOST:9090")
    found.add_argument("model", metavar="MODEL", nargs="?", help="name of a loaded model")
    found.add_argument(
        "checkpoint", metavar="CHECKPOINT", nargs="?",
        help="name of a directory in the server's --model-root",
    )  # fmt: skip
    found.add_argument(
        "--also", nargs=2, action="append", metavar=("MODEL", "CHECKPOINT"), default=[],
        help="another one in the same step, as for an average and its members; may be repeated",
    )  # fmt: skip
    found.add_argument(
        "--shadow", metavar="NAME=NUMBER,…", nargs="?", const="",
        help="compare first on what callers ask: share=0.1 of the requests, until items=1000 are "
        "compared or seconds=600 are over; without --require nothing is swapped then",
    )  # fmt: skip
    found.add_argument(
        "--require", metavar="NAME=NUMBER,…",
        help="swap if the comparison keeps these limits: rank_correlation=, kendall= at least; "
        "changed_preferences=, mean_shift=, std_ratio=, failed= at most; items= compared at least",
    )  # fmt: skip
    found.add_argument("--list", action="store_true", help="what is served, from where, since when")
    found.add_argument("--cancel", action="store_true", help="end the swap that is under way")
    found.add_argument("--json", action="store_true", help="print what the server answered")
    return found


def told(answer: SwapView | ListedModels | Problem, as_json: bool) -> int:
    """Say what was answered; the exit status."""
    if isinstance(answer, Problem):
        remedy = answer.remedy
        if answer.type.endswith("#not-found"):
            remedy = "name the admin port of a server that was started with --model-root"
        print(f"plaudit swap: {answer.title}: {answer.detail}; {remedy}", file=sys.stderr)
        return 1
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(answer), indent=2).decode())
    else:
        print(swap_text.of(answer))
    if isinstance(answer, ListedModels):
        return 0
    return 1 if answer.state in ("refused", "cancelled", "failed") else 0


def complain(text: str) -> int:
    print(f"plaudit swap: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
