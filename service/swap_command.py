"""``plaudit swap``: another checkpoint in the place of one that is served."""

import argparse
import os
import sys
from collections.abc import Sequence

import httpx2
import msgspec

from plaudit.wire import Problem
from service.swap_request import SwapAnswer, SwapRequest

VARIABLE = "PLAUDIT_ADMIN_KEY"
CONNECT_SECONDS = 10.0


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    key = os.environ.get(VARIABLE)
    if not key:
        return complain(f"no key: export {VARIABLE}=… with a key of the server's --admin-keys")
    asked = SwapRequest(options.model, options.checkpoint)
    try:
        answer = post(options.url.rstrip("/") + "/admin/swap", asked, key)
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return complain(
            f"{options.url}: {error or type(error).__name__}; name the admin port of a server that "
            "runs, http://HOST:9000"
        )
    return report(answer)


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="plaudit swap",
        description="Serve another checkpoint under the name of a loaded model, without a restart. "
        "What was asked before is answered by the old one.",
        epilog=f"{VARIABLE} has a key of the server's --admin-keys. Exit status: 0 swapped, 1 "
        "refused, which changes nothing, 2 for bad input or no server",
    )
    found.add_argument("url", metavar="URL", help="admin port of the server, http://HOST:9000")
    found.add_argument("model", metavar="MODEL", help="name of a loaded model")
    found.add_argument(
        "checkpoint", metavar="CHECKPOINT", help="name of a directory in the server's --model-root"
    )
    return found


def post(url: str, asked: SwapRequest, key: str) -> httpx2.Response:
    # However long the server takes to load it.
    patience = httpx2.Timeout(None, connect=CONNECT_SECONDS)
    headers = {"Authorization": f"Bearer {key}"}
    return httpx2.post(url, content=msgspec.json.encode(asked), headers=headers, timeout=patience)


def report(answer: httpx2.Response) -> int:
    """Say what was answered; the exit status."""
    try:
        if answer.is_success:
            swapped = msgspec.json.decode(answer.content, type=SwapAnswer)
        else:
            problem = msgspec.json.decode(answer.content, type=Problem)
    except msgspec.DecodeError:
        return complain(f"HTTP {answer.status_code} from what is no Plaudit: correct the URL")
    if answer.is_success:
        print(f"{swapped.model}: {swapped.before} -> {swapped.after} in {swapped.seconds:.1f} s")
        return 0
    remedy = problem.remedy
    if answer.status_code == httpx2.codes.NOT_FOUND and problem.type.endswith("#not-found"):
        remedy = "name the admin port of a server that was started with --model-root"
    print(f"plaudit swap: {problem.title}: {problem.detail}; {remedy}", file=sys.stderr)
    return 1


def complain(text: str) -> int:
    print(f"plaudit swap: {text}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
