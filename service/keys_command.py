"""``plaudit keys``: make a key, and look at a file of them."""

import argparse
import os
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from service.key_entry import GRANTS, NAME, Entry, KeysError, digest_of, read
from service.key_sources import OF_ADMIN, OF_API, in_file, of_file, warnings_of
from service.keys import Keys

# By which those who look for secrets in repositories know one.
PREFIX = "plaudit_"
BYTES = 32


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    try:
        status: int = options.run(options)
    except (KeysError, OSError) as error:
        print(f"plaudit keys: {error}", file=sys.stderr)
        return 2
    return status


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="plaudit keys",
        allow_abbrev=False,
        description=__doc__,
        epilog="Exit status: 0, 2 for what the server would not take",
    )
    commands = found.add_subparsers(required=True, metavar="COMMAND")
    add_new(commands.add_parser("new", allow_abbrev=False, help="make a key"))
    add_check(commands.add_parser("check", allow_abbrev=False, help="look at a file of keys"))
    return found


def add_new(found: argparse.ArgumentParser) -> None:
    found.description = (
        "Make a key of 256 random bits. It is printed once; a keys file has its SHA-256 digest, "
        "from which it cannot be found."
    )
    found.set_defaults(run=new)
    found.add_argument("name", metavar="NAME", help="of the client, in metrics and in the log")
    found.add_argument(
        "--scope", action="append", choices=GRANTS, default=[],
        help="what it opens; may be given several times; default: score",
    )  # fmt: skip
    found.add_argument("--tokens-per-second", metavar="N", help="the client's quota")
    found.add_argument("--burst-tokens", metavar="N", help="most tokens at once under the quota")
    found.add_argument("--expires", metavar="DATE", help="2027-06-30 or 2027-06-30T12:00:00Z, UTC")
    found.add_argument(
        "--file", type=Path, metavar="FILE", help="append the line there, and print only the key"
    )


def add_check(found: argparse.ArgumentParser) -> None:
    found.description = "Read a file of keys as the server does, and show what it grants to whom."
    found.set_defaults(run=check)
    found.add_argument("file", type=Path, metavar="FILE")
    found.add_argument(
        "--admin", action="store_true",
        help="it is a file of --admin-keys-file, whose keys open other things if they name none",
    )  # fmt: skip


def new(options: argparse.Namespace) -> int:
    if not NAME.fullmatch(options.name):
        raise KeysError(
            "a name is of small letters, digits, - and _, begins with a letter, and has at most 32"
        )
    key = PREFIX + secrets.token_urlsafe(BYTES)
    line = line_of(options, key)
    (entry,) = read([line], "the new key, line", GRANTS, "key")
    if options.file is None:
        print(f"key, shown this once:  {key}\nline of a keys file:   {line}")
    else:
        there = in_file(options.file) if options.file.exists() else []
        Keys([*there, entry])  # refuses what contradicts the others
        append(options.file, line)
        print(key)
    return 0


def line_of(options: argparse.Namespace, key: str) -> str:
    words = [f"{options.name}:sha256:{digest_of(key).hex()}"]
    words += [f"scope={one}" for one in dict.fromkeys(options.scope or ["score"])]
    fields = ("tokens_per_second", "burst_tokens", "expires")
    given = {name: getattr(options, name) for name in fields}
    words += [f"{n.replace('_', '-')}={value}" for n, value in given.items() if value is not None]
    return " ".join(words)


def append(file: Path, line: str) -> None:
    """As a line of its own; a new file is readable for its owner alone."""
    opened = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    with open(opened, "r+b") as lines:
        whole = lines.read()
        lines.write((b"\n" if whole and not whole.endswith(b"\n") else b"") + f"{line}\n".encode())


def check(options: argparse.Namespace) -> int:
    file = options.file
    entries = of_file(file, OF_ADMIN, "admin-key") if options.admin else of_file(file, OF_API)
    Keys(entries)
    shown = Table(*("client", "scopes", "tokens/s", "burst", "expires", "written as"), box=None)
    for one in entries:
        shown.add_row(*cells(one))
    Console(highlight=False, soft_wrap=True, width=120).print(shown)
    for text in warnings_of([file], entries):
        print(f"warning: {text}", file=sys.stderr)
    plain = [one.place for one in entries if not one.hashed]
    if plain:
        print(
            f"note: {len(plain)} in plain ({plain[0]}): whoever reads the file has the key; "
            "plaudit keys new makes one of which the file has the digest only",
            file=sys.stderr,
        )
    return 0


def cells(one: Entry) -> list[str]:
    quota = ("-", "-")
    if one.quota is not None:
        quota = (f"{one.quota.tokens_per_second:g}", str(one.quota.burst_tokens))
    expires = f"{one.expires:%Y-%m-%d %H:%M} UTC" if one.expires else "-"
    scopes = " ".join(grant for grant in GRANTS if grant in one.grants)
    return [one.client, scopes, *quota, expires, "digest" if one.hashed else "plain key"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
