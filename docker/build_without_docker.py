"""Runs the Dockerfile's own steps into an empty environment, where there is no Docker engine.

    python docker/build_without_docker.py .venv-image

The folder becomes what the image has as /opt/plaudit. Each stage has a fresh virtual environment in
the place of its base image, which is Python 3.11; useradd and what comes after it is left out.
"""

import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).parents[1]
ARGUMENTS = {"TARGET": "cpu", "EXTRA": "service", "TORCH_INDEX_URL": ""}
Step = tuple[str, str]


def stages() -> Iterator[tuple[str, list[Step]]]:
    """The stages that have a name, each with its steps; continued lines joined."""
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#"))
    steps = [line.split(maxsplit=1) for line in re.sub(r"\\\n\s*", "", text).splitlines() if line]
    starts = [n for n, (instruction, _) in enumerate(steps) if instruction == "FROM"]
    for start, end in zip(starts, [*starts[1:], len(steps)], strict=True):
        _, _, name = steps[start][1].partition(" AS ")
        if name:
            yield name, [(instruction, words) for instruction, words in steps[start + 1 : end]]


def ignored_anywhere() -> list[str]:
    """Patterns of .dockerignore that are of every folder."""
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    return [line.removeprefix("**/") for line in lines if line.startswith("**/")]


class Build:
    """Folders of the image, and where they are on this machine."""

    def __init__(self, scratch: Path, out: Path):
        self._scratch = scratch
        self._places = {"/opt/plaudit": out, "/wheel": scratch / "wheel", "/src": scratch / "src"}
        self._environ = dict(os.environ) | ARGUMENTS
        # Of whoever runs this, and not of an image.
        self._environ.pop("PYTHONPATH", None)

    def stage(self, name: str, steps: list[Step]) -> None:
        base = self._scratch / name
        venv.create(base, with_pip=True)
        self._environ["PATH"] = f"{base / 'bin'}{os.pathsep}{os.environ['PATH']}"
        shutil.rmtree(self._places["/src"], ignore_errors=True)
        self._places["/src"].mkdir()
        for instruction, words in steps:
            self._step(instruction, words)

    def _step(self, instruction: str, words: str) -> None:
        match instruction:
            case "RUN":
                print("RUN", words, flush=True)
                command = self._here(re.sub(r"--mount=\S+\s+", "", words))
                # Without a package of the environment that runs this.
                subprocess.run(
                    ["sh", "-ec", command], cwd=self._places["/src"], env=self._environ, check=True
                )
            case "COPY":
                self._copy(words.split())
            case "ENV":
                name, value = words.split("=", 1)
                value = self._here(value).replace("$PATH", self._environ["PATH"])
                self._environ[name] = value
            case "ARG" | "WORKDIR":
                pass
            case _:
                sys.exit(f"build_without_docker.py does not know {instruction}: teach it")

    def _copy(self, words: list[str]) -> None:
        if words[0].startswith("--from="):
            return  # the stages share their folders here
        *sources, target = words
        # Also because whoever imports these files now may be writing there.
        ignored = shutil.ignore_patterns(*ignored_anywhere())
        here = self._places["/src"]
        for source in (ROOT / each for each in sources):
            if source.is_dir():
                shutil.copytree(source, here / target, ignore=ignored, dirs_exist_ok=True)
            else:
                shutil.copy(source, here / source.name)

    def _here(self, text: str) -> str:
        for there, here in self._places.items():
            text = text.replace(there, str(here))
        return text


def main() -> None:
    if sys.version_info[:2] != (3, 11):
        sys.exit("the locked requirements are those of Python 3.11: run this with python3.11")
    out = Path(sys.argv[1]).resolve()
    shutil.rmtree(out, ignore_errors=True)
    with TemporaryDirectory() as scratch:
        build = Build(Path(scratch), out)
        for name, steps in stages():
            build.stage(name, steps)


if __name__ == "__main__":
    main()
