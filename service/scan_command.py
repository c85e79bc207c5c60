"""``plaudit scan``: model directories looked at before anything of them is loaded."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from plaudit.checkpoint import CheckpointError
from plaudit.scan import Finding, explain, scan, verify


class Report(msgspec.Struct, frozen=True):
    """What was found in one directory; ``safe``: nothing is refused."""

    directory: str
    safe: bool
    findings: list[Finding]


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    try:
        directories = [one for path in options.directories for one in models_of(path)]
    except CheckpointError as error:
        print(f"plaudit scan: {error}", file=sys.stderr)
        return 2
    reports = [report(directory) for directory in directories]
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
        epilog="exit status: 0 nothing is refused, 1 something is, 2 for bad arguments "
        "or a path that is not there",
    )
    found.add_argument(
        "directories", type=Path, nargs="+",
        help="model directories, or files of ensembles or objectives",
    )  # fmt: skip
    found.add_argument("--json", action="store_true", help="what was found, as JSON")
    return found


def models_of(path: Path) -> list[Path]:
    """A model directory, or those that an ensemble or objectives file names."""
    if path.is_dir():
        return [path]
    from plaudit import joint_file  # which needs numpy, and a scan of directories does not

    if not path.is_file():
        raise CheckpointError(joint_file.nothing_at(path))
    return joint_file.directories(path, joint_file.read(path).models)


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
