"""``plaudit score``: the score of every response of data files, by a model or a service."""

import argparse
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import get_args

import msgspec
from msgspec import Struct

from plaudit.wire import Truncation
from training.data import sources
from training.data.jsonlines import DataError, Row, check_name, read_rows, write_rows
from training.data.shapes import SHAPES
from training.data.sources import Loaded, Source
from training.precision import measuring_dtype
from training.score import checkpoints, drawing, separation, served
from training.score.drawing import Found
from training.score.outcome import Asked, Outcome, Scorer
from training.score.separation import Place
from training.settings import DataSettings, SettingsError, load


class Scored(Struct, frozen=True):
    """What the command found, beside the scores themselves. ``separation`` is of rewards.
    ``degraded`` counts responses whose reward is without some members."""

    command: str
    scorer: Scorer
    responses: int
    degraded: int
    errors: dict[str, int]
    refused_rows: dict[str, int]
    digests: dict[str, str]
    separation: Found


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    loaded = read(options.data, options.shape)
    check_name(options.out, *inputs(options, loaded), beside=(".json", ".svg"))
    places, asked = responses(loaded)
    before = {} if options.before is None else read_before(options.before, loaded)
    scorer, outcomes = score(options, asked)
    write_rows(options.out, rows(places, outcomes))
    after = {place: one.reward for place, one in zip(places, outcomes, strict=True)}
    files = {"before": before, "after": after} if before else {"": after}
    apart = {one.source.name: separation.by_file(one, files) for one in loaded}
    found = Scored(
        command=shlex.join(["plaudit", "score", *argv]),
        scorer=scorer,
        responses=len(asked),
        degraded=sum(outcome.failed is not None for outcome in outcomes),
        errors=dict(Counter(o.error.type for o in outcomes if o.error is not None)),
        refused_rows={one.source.name: len(one.refused) for one in loaded},
        digests={one.source.name: one.digest for one in loaded},
        separation={source: row for source, row in apart.items() if row},
    )
    write_figures(options.out, found)
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="plaudit score", description=__doc__)
    found.add_argument(
        "scorer", metavar="CHECKPOINT|FILE|URL", help="a directory, a file of several, http://…"
    )
    found.add_argument(
        "--data", type=Path, nargs="+", required=True, metavar="FILE",
        help=".jsonl or .jsonl.gz files of one shape, or YAML files with sources",
    )  # fmt: skip
    found.add_argument(
        "--shape", choices=list(SHAPES), default="plaudit", help="of JSON lines; %(default)s"
    )
    found.add_argument("--out", type=Path, required=True, help="the scores, a .jsonl file")
    found.add_argument(
        "--before", type=Path, help="scores of the same data, say by the untrained model"
    )
    found.add_argument("--model", help="of a service that has several")
    found.add_argument(
        "--truncation", choices=get_args(Truncation), default="error",
        help="what a response over the model's limit gets: an error, or a cut; %(default)s",
    )  # fmt: skip
    found.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    return found


def read(files: Sequence[Path], shape: str) -> list[Loaded]:
    found: list[Source] = []
    for path in files:
        if path.suffix in (".yaml", ".yml"):
            found += load(DataSettings, path).sources
        else:
            name = path.name.removesuffix(".gz").removesuffix(".jsonl")
            found.append(Source.model_validate({"name": name, "path": path, "shape": shape}))
    names = Counter(source.name for source in found)
    if max(names.values()) > 1:
        raise DataError(f"two sources are named {names.most_common(1)[0][0]!r}; name them apart")
    return sources.load_all(found, sys.stderr)


def inputs(options: argparse.Namespace, loaded: Sequence[Loaded]) -> list[Path]:
    """All files that are read, those that YAML names too."""
    of_yaml = [one.source.path for one in loaded if one.source.path is not None]
    return [*options.data, *of_yaml, *([options.before] if options.before else [])]


def responses(loaded: Sequence[Loaded]) -> tuple[list[Place], list[Asked]]:
    """Every response of every row, in the order of the files."""
    places: list[Place] = []
    asked: list[Asked] = []
    for one in loaded:
        for group in one.groups:
            for number, response in enumerate(group.responses):
                places.append((one.source.name, group.line, number))
                asked.append((list(group.prompt), response))
    return places, asked


def score(options: argparse.Namespace, asked: Sequence[Asked]) -> tuple[Scorer, list[Outcome]]:
    if options.scorer.startswith(("http://", "https://")):
        return served.score(options.scorer, options.model, asked, options.truncation)
    if options.model is not None:
        raise SettingsError("--model names one of a service's models; leave it out")
    dtype = measuring_dtype(options.dtype)
    return checkpoints.score(Path(options.scorer), asked, options.truncation, dtype)


def rows(places: Sequence[Place], outcomes: Sequence[Outcome]) -> Iterator[Row]:
    for (source, line, number), outcome in zip(places, outcomes, strict=True):
        known = {"source": source, "line": line, "response": number}
        yield known | msgspec.to_builtins(outcome)


def read_before(path: Path, loaded: Sequence[Loaded]) -> dict[Place, float | None]:
    """Earlier rewards by place; every pair of ``loaded`` has both of its own."""
    rows = read_rows(path, ["source", "line", "response", "reward"])
    found = {(row["source"], row["line"], row["response"]): row["reward"] for row in rows}
    for one in loaded:
        separation.check_covers(found, one)
    return found


def write_figures(out: Path, found: Scored) -> None:
    text = msgspec.json.format(msgspec.json.encode(found), indent=1)
    out.with_suffix(".json").write_bytes(text)
    degraded = f", {found.degraded} without some members" if found.degraded else ""
    print(f"{out}: {found.responses} responses, {sum(found.errors.values())} errors{degraded}")
    if found.separation:
        out.with_suffix(".svg").write_text(drawing.draw(found.separation))
        print(drawing.markdown(found.separation), end="")
