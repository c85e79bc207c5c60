"""``plaudit scan``: model directories looked at before anything of them is loaded."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from plaudit.scan import Finding, explain, scan, verify


class Report(msgspec.Struct, frozen=True):
    """What was found in one directory; ``safe``: nothing is refused."""

    directory: str
    safe: bool
    findings: list[Finding]


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    reports = [report(directory) for directory in options.directories]
    if options.json:
        print(msgspec.json.format(msgspec.json.encode(reports), indent=1).decode())
    else:
        print("\n".join(text(one) for one in reports))
    return 0 if all(one.safe for one in reports) else 1


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="plaudit scan",
        allow_abbrev=False,
        description="Look at model directories before anything of them is loaded: no weight is "
        "read but for its digest, no code is imported, nothing is fetched.",
        epilog="exit status: 0 nothing is refused, 1 something is, 2 for bad arguments",
    )
    found.add_argument("directories", type=Path, nargs="+", help="model directories")
    found.add_argument("--json", action="store_true", help="what was found, as JSON")
    return found


def report(directory: Path) -> Report:
    found = scan(directory)
    safe = not any(finding.severity == "refused" for finding in found)
    if safe:  # a directory that is refused is not read any further
        found = [*verify(directory), *found]
        safe = not any(finding.severity == "refused" for finding in found)
    return Report(str(directory), safe, found)


def text(one: Report) -> str:
    lines = [explain(Path(one.directory), finding) for finding in one.findings]
    return "\n".join([f"{one.directory}: {'safe' if one.safe else 'refused'}", *lines])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
