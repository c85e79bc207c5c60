"""Runs a target under atheris, guided by what each input reaches.

python tests/fuzz NAME --seconds 60 [--corpus DIR] [--seed N], with atheris installed.

What breaks it is written to the working directory as crash-…, and belongs into tests/fuzz/corpus.
"""

import argparse
import hashlib
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

# Of one input; far beyond what any needs.
SECONDS, MEGABYTES, LONGEST = 10, 4096, 4096


def main() -> None:
    options = parser().parse_args()
    import atheris  # no dependency of anything else here

    # Before anything of them is imported: what targets read with is instrumented.
    with atheris.instrument_imports(include=["plaudit", "service", "tests.fuzz", "yaml", "json"]):
        from tests.fuzz.targets import TARGETS, inputs
    if options.name not in TARGETS:
        sys.exit(f"no target {options.name!r}: {', '.join(TARGETS)}")
    corpus = options.corpus or Path(tempfile.mkdtemp(prefix=f"fuzz-{options.name}-"))
    corpus.mkdir(parents=True, exist_ok=True)
    known = [one for one in inputs(options.name) if len(one) <= LONGEST]
    for number, one in enumerate(known):
        (corpus / f"seed-{number:03}").write_bytes(one)
    flags = {
        "max_total_time": options.seconds, "seed": options.seed, "timeout": SECONDS,
        "rss_limit_mb": MEGABYTES, "max_len": LONGEST, "len_control": 0, "print_final_stats": 1,
    }  # fmt: skip
    words = dictionary(known)
    arguments = [f"-{name}={value}" for name, value in (flags | words).items()]
    atheris.Setup([sys.argv[0], str(corpus), *arguments], kept(TARGETS[options.name].one))
    atheris.Fuzz()


def kept(one: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The target, which writes down what breaks it."""

    def watched(data: bytes) -> None:
        try:
            one(data)
        except Exception:
            name = hashlib.sha256(data).hexdigest()[:16]
            Path(f"crash-{name}").write_bytes(data)
            raise

    return watched


def dictionary(known: list[bytes]) -> dict[str, str]:
    """As a flag, a file of the words that stand in quotes in what is known: keys, above all."""
    words = {word for one in known for word in re.findall(rb'"([\w .:/-]{1,40})"', one)}
    lines = [f'"\\"{word.decode("ascii")}\\""\n' for word in sorted(words) if word.isascii()]
    with tempfile.NamedTemporaryFile("w", prefix="fuzz-words-", delete=False) as file:
        file.writelines(lines)
    return {"dict": file.name} if lines else {}


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__)
    found.add_argument("name", help="of a module in tests/fuzz/targets")
    found.add_argument("--seconds", type=int, default=60)
    found.add_argument("--seed", type=int, default=1)
    found.add_argument("--corpus", type=Path, help="kept and grown; else a new directory")
    return found


if __name__ == "__main__":
    main()
