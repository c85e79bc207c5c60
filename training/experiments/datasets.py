"""The data of the experiments: files of ``--data``, each as a source with its digest checked."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from training.data.jsonlines import DataError, write_rows
from training.data.shapes import Pair, Shape
from training.data.sources import Loaded, Source, load, rows_of_file
from training.data.splits import unit_digest
from training.evaluate.gold import GoldList, gold_lists


def rmb_pairs(data: Path, share: float = 1.0) -> list[Pair]:
    return read(data, "rmb_pairs", "plaudit", share)


def read(data: Path, name: str, shape: Shape, share: float = 1.0) -> list[Pair]:
    """The pairs of a file, of a share of its prompts by digest."""
    pairs = load_file(data, name, shape).pairs
    return [pair for pair in pairs if unit_digest(pair.first_turn, salt="share") < share]


def load_file(data: Path, name: str, shape: Shape) -> Loaded:
    manifest = data / "MANIFEST.json"
    if not manifest.is_file():
        raise DataError(
            f"--data {data}: no MANIFEST.json; name the directory of the preference data"
        )
    file = f"{name}.jsonl.gz"
    digests = {entry["file"]: entry["sha256"] for entry in json.loads(manifest.read_text())}
    return load(Source(name=name, path=data / file, shape=shape, sha256=digests[file]))


def write_short(pairs: Sequence[Pair], max_tokens: int, out: Path) -> None:
    """A data file of the pairs that may be short enough, so that not every training encodes all of
    them: a token has at most some eight characters."""
    write_rows(
        out,
        (
            {"prompt": list(pair.prompt), "chosen": pair.chosen, "rejected": pair.rejected}
            for pair in pairs
            if characters(pair) <= 8 * max_tokens
        ),
    )


def characters(pair: Pair) -> int:
    """Of the prompt with the longer response."""
    longest = max(len(pair.chosen), len(pair.rejected))
    return longest + sum(len(turn["content"]) for turn in pair.prompt)


@dataclass(frozen=True)
class Answered:
    """A list of AlpacaEval with the model that gave each response."""

    graded: GoldList
    models: list[str]


def alpacaeval_lists(data: Path, share: float = 1.0) -> list[Answered]:
    """Of a share of the prompts."""
    loaded = load_file(data, "alpacaeval_lists", "win_probabilities")
    _, rows = rows_of_file(loaded.source)
    models = {
        line: [response["generator"] for response in row["responses"]]
        for line, row in rows
        if isinstance(row, dict)
    }
    return [
        # The reference is the group's first response.
        Answered(one, [models[one.line][place - 1] for place in one.places])
        for one in gold_lists(loaded)
        if unit_digest(one.first_turn, salt="share") < share
    ]
