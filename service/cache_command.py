"""``plaudit cache``: what the score cache in Redis holds, and how to empty it."""

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec
from redis import Redis
from redis.exceptions import NoPermissionError, RedisError

from service import cached_keys
from service.byte_size import size
from service.cache import KEY_PREFIX, SHORT
from service.cached_keys import Keys
from service.duration import UNITS, DurationError, seconds_of
from service.redaction import redacted, secrets_of, without_password
from service.redis_connection import connect
from service.settings import PREFIX, Settings

URL_VARIABLE = f"{PREFIX}REDIS_URL"
TIMEOUT_SECONDS = 30.0
# Of keys none of which was sampled.
UNKNOWN = "-"
COMMANDS = "+ping +info +scan +pttl +memory|usage +unlink"


class CacheError(ValueError):
    """What keeps the command from its work; the text ends with what mends it."""


class Stats(msgspec.Struct, frozen=True):
    """The keys by revision, and the figures of the whole Redis, which others may use too.

    ``hit_ratio`` is over every read of the server since it started; None before the first.
    """

    redis: str
    version: str
    keys: int
    bytes: int
    revisions: list[dict[str, Any]]
    used_memory_bytes: int
    maxmemory_bytes: int
    maxmemory_policy: str
    evicted_keys: int
    hit_ratio: float | None


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    url = options.redis_url or os.environ.get(URL_VARIABLE)
    if not url:
        raise CacheError(
            f"no Redis to look at: export {URL_VARIABLE}=redis://HOST:6379/0, as the server has "
            "it, or --redis-url URL"
        )
    redis = connect(url, TIMEOUT_SECONDS)
    try:
        status: int = options.run(redis, without_password(url), options)
    except NoPermissionError as error:
        raise CacheError(
            f"{redacted(str(error), secrets_of(url))}: the user needs more than the server's does: "
            f"redis-cli ACL SETUSER NAME {COMMANDS} '~plaudit:*'"
        ) from None
    except (RedisError, OSError) as error:
        raise CacheError(
            f"{without_password(url)}: {redacted(str(error), secrets_of(url))}; "
            "see plaudit doctor --redis-url URL"
        ) from None
    finally:
        redis.close()
    return status


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="plaudit cache", allow_abbrev=False, description=__doc__)
    commands = found.add_subparsers(required=True, metavar="stats|purge")
    looks = commands.add_parser(
        "stats", allow_abbrev=False, help="keys, bytes and lives by revision; hit ratio"
    )
    looks.add_argument("--json", action="store_true", help="for programs")
    looks.set_defaults(run=stats)
    empties = commands.add_parser(
        "purge", allow_abbrev=False, help="unlink keys: all, of a revision, or old ones"
    )
    which = empties.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="every key that begins with plaudit:")
    which.add_argument(
        "--revision", metavar="REVISION", help="of a model, or its first digits: sha256:1f0c…"
    )
    which.add_argument(
        "--older", metavar="TIME", type=duration, help="written longer ago than 30m, 12h, 7d"
    )
    empties.add_argument(
        "--ttl-seconds", type=int, metavar="N",
        # As a string, which argparse reads only for who purges.
        default=os.environ.get(f"{PREFIX}CACHE_TTL_SECONDS", default_ttl()),
        help="the servers' --cache-ttl-seconds, which --older counts from; default: %(default)s",
    )  # fmt: skip
    empties.add_argument("--yes", action="store_true", help="do not ask")
    empties.set_defaults(run=purge)
    for command in (looks, empties):
        command.add_argument(
            "--redis-url", metavar="URL", help=f"redis://…; default: ${URL_VARIABLE}"
        )
    return found


def default_ttl() -> int:
    return int(Settings.model_fields["cache_ttl_seconds"].default)


def duration(text: str) -> int:
    """Seconds, for argparse."""
    try:
        return seconds_of(text)
    except DurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def stats(redis: Redis, shown: str, options: argparse.Namespace) -> int:
    found = gather(redis, shown)
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(found), indent=1).decode())
    else:
        print("\n".join(lines(found)))
    return 0


def gather(redis: Redis, shown: str) -> Stats:
    keys = cached_keys.by_revision(redis)
    info = redis.info()
    reads = info["keyspace_hits"] + info["keyspace_misses"]
    return Stats(
        redis=shown,
        version=str(info["redis_version"]),
        keys=sum(one.count for one in keys.values()),
        bytes=sum(one.bytes for one in keys.values()),
        revisions=[as_row(one) for one in sorted(keys.values(), key=lambda k: -k.count)],
        used_memory_bytes=info["used_memory"],
        maxmemory_bytes=info["maxmemory"],
        maxmemory_policy=info["maxmemory_policy"],
        evicted_keys=info["evicted_keys"],
        hit_ratio=info["keyspace_hits"] / reads if reads else None,
    )


def as_row(keys: Keys) -> dict[str, Any]:
    return {
        "revision": keys.revision,
        "keys": keys.count,
        "bytes": keys.bytes,
        "sampled": keys.sampled,
        "endless": keys.endless,
        "shortest_ttl_seconds": keys.shortest_ttl_seconds,
        "longest_ttl_seconds": keys.longest_ttl_seconds,
    }


def lines(found: Stats) -> Iterator[str]:
    yield f"{found.redis}, Redis {found.version}: {found.keys} keys of Plaudit, {size(found.bytes)}"
    yield ""
    yield f"{'revision':16}{'keys':>10}{'memory':>12}{'ends in':>20}"
    for row in found.revisions:
        yield f"{row['revision']:16}{row['keys']:>10}{memory(row):>12}{lives(row):>20}"
    yield ""
    most = size(found.maxmemory_bytes) if found.maxmemory_bytes else "no limit"
    used = size(found.used_memory_bytes)
    yield f"memory of the server: {used} of {most}, {found.maxmemory_policy}"
    ratio = "no read yet" if found.hit_ratio is None else f"{found.hit_ratio:.1%} hits"
    yield f"since it started: {ratio}, {found.evicted_keys} keys evicted (of all its users)"


def memory(row: dict[str, Any]) -> str:
    if not row["sampled"]:
        return UNKNOWN
    about = "" if row["sampled"] == row["keys"] else "~"
    return about + size(row["bytes"])


def lives(row: dict[str, Any]) -> str:
    if not row["sampled"]:
        return UNKNOWN
    if row["endless"] == row["sampled"]:
        return "never"
    return f"{span(row['shortest_ttl_seconds'])} to {span(row['longest_ttl_seconds'])}"


def span(seconds: float) -> str:
    for unit in ("d", "h", "m"):
        if seconds >= UNITS[unit]:
            return f"{seconds / UNITS[unit]:.1f} {unit}"
    return f"{seconds:.0f} s"


def purge(redis: Redis, shown: str, options: argparse.Namespace) -> int:
    chosen = choice(redis, options)
    count = sum(map(len, chosen()))
    if not count:
        print(f"{shown}: no such key, nothing to unlink")
        return 0
    if not options.yes and not agreed(f"unlink {count} keys at {shown}?"):
        print("nothing was unlinked", file=sys.stderr)
        return 1
    gone = sum(redis.unlink(*names) for names in chosen() if names)
    print(f"{shown}: {gone} keys unlinked")
    return 0


def choice(redis: Redis, options: argparse.Namespace) -> Callable[[], Iterator[list[bytes]]]:
    """What to unlink, in pages, as often as it is asked."""
    if options.older is None:
        pattern = cached_keys.EVERY_LAYOUT if options.all else pattern_of(options.revision)
        return lambda: cached_keys.pages(redis, pattern)
    left = options.ttl_seconds - options.older
    if left <= 0:
        raise CacheError(
            f"no key lives longer than {options.ttl_seconds} s (--ttl-seconds): "
            "name a shorter time for --older"
        )
    return lambda: (
        cached_keys.older(redis, names, left * 1000) for names in cached_keys.pages(redis)
    )


def pattern_of(revision: str) -> bytes:
    digits = revision.removeprefix("sha256:")[:SHORT]
    if not re.fullmatch(r"[0-9a-f]{4,}", digits):
        raise CacheError(
            f"--revision {revision!r} is no revision: plaudit cache stats, and GET /models of the "
            "server, list them; four of its digits or more"
        )
    return KEY_PREFIX + digits.encode() + (b":*" if len(digits) == SHORT else b"*")


def agreed(question: str) -> bool:
    """What a person answers; CacheError where nobody can."""
    if not sys.stdin.isatty():
        raise CacheError(f"{question} Nobody is there to ask: add --yes")
    return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")
