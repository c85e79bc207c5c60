"""``plaudit top``: what servers do right now, from their /metrics."""

import argparse
import asyncio
import os
from collections.abc import AsyncIterator, Sequence

import httpx2
from rich.console import Console
from rich.live import Live

from service.top import view
from service.top.scrape import VARIABLE, Down, Scrape, address, scrape
from service.top.view import Seen
from service.top.window import Window, between

SHORTEST_SECONDS = 0.1


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    urls = list(dict.fromkeys(address(one) for text in options.urls for one in text.split(",")))
    try:
        return asyncio.run(watch(urls, options.interval, options.once, Console(highlight=False)))
    except KeyboardInterrupt:
        return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="plaudit top",
        allow_abbrev=False,
        description=__doc__,
        epilog=f"{VARIABLE} has a key with the scope metrics, where one is needed. "
        "Rates and quantiles are of the time between two looks. Ctrl-C ends it. Without a "
        "terminal it prints a line for each server and look. Exit status: 0, 1 where --once found "
        "no server, 2 for bad input",
    )
    found.add_argument(
        "urls", nargs="*", default=["http://127.0.0.1:8000"], metavar="URL",
        help="servers, several with spaces or commas; an admin port where there is one; "
        "default: http://127.0.0.1:8000",
    )  # fmt: skip
    found.add_argument(
        "--interval", type=interval, default=2.0, metavar="SECONDS",
        help="between two looks; default: %(default)g",
    )  # fmt: skip
    found.add_argument("--once", action="store_true", help="two looks, one plain table")
    return found


def interval(text: str) -> float:
    value = float(text)
    if not SHORTEST_SECONDS <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"must be {SHORTEST_SECONDS:g} or more")
    return value


async def watch(urls: Sequence[str], seconds: float, once: bool, console: Console) -> int:
    key = os.environ.get(VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with httpx2.AsyncClient(headers=headers) as http:
        looks = windows(http, urls, seconds)
        if once:
            return report(await anext(looks), console)
        if not console.is_terminal:
            async for seen in looks:
                for line in view.lines(seen):
                    print(line, flush=True)
        with Live(console=console, screen=True, auto_refresh=False) as live:
            live.update(f"looking at {', '.join(map(view.name, urls))} …", refresh=True)
            async for seen in looks:
                live.update(view.tables(seen), refresh=True)
    return 0


def report(seen: Seen, console: Console) -> int:
    """One table without colours, as wide as it needs to be."""
    plain = Console(file=console.file, no_color=True, highlight=False, width=200)
    plain.print(view.tables(seen))
    return 0 if any(isinstance(one, Window) for one in seen.values()) else 1


async def windows(
    http: httpx2.AsyncClient, urls: Sequence[str], seconds: float
) -> AsyncIterator[Seen]:
    """A window of every server each ``seconds``, the first after two looks."""
    before = await looks(http, urls)
    while True:
        await asyncio.sleep(seconds)
        after = await looks(http, urls)
        yield {url: since(before[url], after[url]) for url in urls}
        # One that is down for a moment keeps what it had, so that a restart is seen as one.
        before = {url: a if isinstance(a := after[url], Scrape) else before[url] for url in urls}


async def looks(http: httpx2.AsyncClient, urls: Sequence[str]) -> dict[str, Scrape | Down]:
    found = await asyncio.gather(*(scrape(http, url) for url in urls))
    return dict(zip(urls, found, strict=True))


def since(before: Scrape | Down, after: Scrape | Down) -> Window | Down:
    if isinstance(after, Down):
        return after
    if isinstance(before, Down):
        return Down("just came up: figures from the next look on")
    return between(before, after)
