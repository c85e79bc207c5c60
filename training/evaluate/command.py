"""``plaudit evaluate``: models and ensembles on held-out pairs, beside what length achieves."""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from training import model_card, report, settings
from training.data import sources
from training.data.jsonlines import write_rows
from training.data.shapes import LISTED
from training.evaluate import candidates, evaluation, figures, mistakes, provenance, seen
from training.evaluate.baselines import LENGTH_ONLY
from training.evaluate.candidates import Candidates
from training.evaluate.disagreement import member_margins
from training.evaluate.evaluation import SIDES, Pairs, Scores
from training.evaluate.figures import Evaluation
from training.evaluate.mistakes import Shown
from training.precision import measuring_dtype
from training.settings import DataSettings, SettingsError


def main(argv: Sequence[str]) -> int:
    options = parser().parse_intermixed_args(argv)
    overrides = [a for a in options.arguments if is_override(a)]
    paths = [Path(a) for a in options.arguments if not is_override(a)]
    if not paths:
        raise SettingsError("nothing to evaluate: name a checkpoint directory or a file of several")
    config = settings.load(DataSettings, options.data, overrides)
    dtype = measuring_dtype(options.dtype)
    found = candidates.read(paths)
    loaded = sources.load_all(config.sources, sys.stderr)
    pairs = evaluation.choose(loaded, config.split, options.split)
    shapes = {source.name: source.shape for source in config.sources}
    listed = {name for name, shape in shapes.items() if shape in LISTED}
    kept, encoded = evaluation.encode_all(
        found, pairs, options.overlong, listed, options.max_tokens
    )
    raw = evaluation.score_all(found, kept, encoded, dtype)
    rewarded = evaluation.calibrate_all(found, kept, raw)
    scores = evaluation.judged(found, kept, raw, rewarded)
    made = {
        "command": shlex.join(["plaudit", "evaluate", *argv]),
        "side": options.split,
        "split": config.split.model_dump(),
        "dtype": dtype,
        "overlong": options.overlong,
        "max_tokens": options.max_tokens,
        **provenance.of_models(found, encoded),
        **provenance.of_data(loaded, pairs, kept),
        **seen.of_models(found, kept),
    }
    rows = figures.make_rows(found, scores)
    results = {
        name: figures.result(
            shapes[name], some, scores[name], rows, member_margins(found, rewarded[name])
        )
        for name, some in kept.items()
    }
    evaluated = Evaluation(rows, results, made)
    write(options.out, evaluated, shown_mistakes(kept, scores, options.show_mistakes))
    write_scores(options.out, kept, scores)
    write_card(options.out, evaluated, found)
    return 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog="plaudit evaluate", description=__doc__)
    found.add_argument(
        "arguments",
        nargs="+",
        metavar="CHECKPOINT|FILE|key=value",
        help="checkpoint directory, file of an ensemble or of objectives, or override of a setting "
        "in --data",
    )
    found.add_argument("--data", type=Path, required=True, help="YAML file: sources and split")
    found.add_argument("--out", type=Path, required=True, help="directory of the report")
    found.add_argument(
        "--split",
        choices=SIDES,
        default="test",
        help="side to evaluate, of benchmarks always all; default: %(default)s",
    )
    found.add_argument(
        "--dtype",
        choices=("auto", "float32", "bfloat16"),
        default="auto",
        help="of the body; auto: bfloat16 where the hardware multiplies in it",
    )
    found.add_argument(
        "--overlong",
        choices=("cut", "drop"),
        default="cut",
        help="pairs over max_tokens: cut at the checkpoint's side, or dropped for every row; "
        "default: %(default)s",
    )
    found.add_argument(
        "--max-tokens",
        type=limit,
        metavar="N",
        help="pairs over N tokens are overlong, where a model's own limit is higher",
    )
    found.add_argument(
        "--show-mistakes",
        type=count,
        default=0,
        metavar="N",
        help="put the texts of each model's N worst mistakes into the page; they may be offensive",
    )
    return found


def count(argument: str) -> int:
    if not argument.isdecimal():
        raise argparse.ArgumentTypeError(f"{argument!r} is no number from 0")
    return int(argument)


def limit(argument: str) -> int:
    if not count(argument):
        raise argparse.ArgumentTypeError("0 tokens leave nothing to evaluate")
    return int(argument)


def is_override(argument: str) -> bool:
    return "=" in argument and not Path(argument).exists()


def write_scores(out: Path, pairs: Pairs, scores: Scores) -> None:
    """One JSON object a pair: digests and numbers, nothing of its text."""
    lines = (
        {
            "source": source,
            "line": pair.line,
            "places": pair.places,
            "category": pair.category,
            "prompt": figures.prompt_digest(pair),
            "scores": {
                name: [float(m.chosen[position]), float(m.rejected[position])]
                for name, m in scores[source].items()
            },
        }
        for source, some in pairs.items()
        for position, pair in enumerate(some)
    )
    write_rows(out / "scores.jsonl", lines)


def shown_mistakes(pairs: Pairs, scores: Scores, count: int) -> Shown:
    """By source and row, the pairs whose texts the page is to show; empty if none are wanted."""
    if count == 0:
        return {}
    return {
        source: {
            name: [some[place] for place in mistakes.worst(measured, count)]
            for name, measured in scores[source].items()
            if name != LENGTH_ONLY
        }
        for source, some in pairs.items()
    }


def write(out: Path, found: Evaluation, shown: Shown) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "evaluation.json").write_bytes(msgspec.json.format(msgspec.json.encode(found), indent=1))
    table = report.markdown(found)
    (out / "table.md").write_text(table)
    (out / "evaluation.html").write_text(report.page(found, shown))
    print(table, end="")
    print(f"{out / 'evaluation.html'}: the full report", file=sys.stderr)


def write_card(out: Path, evaluation: Evaluation, found: Candidates) -> None:
    """The card of a checkpoint that was evaluated alone; a plain model has no manifest for it."""
    only, *others = found.checkpoints.values()
    path = out / "model-card.md"
    if others or found.combined or only.manifest.kind == "plain":
        path.unlink(missing_ok=True)  # an earlier run's
        return
    path.write_text(model_card.card(evaluation, only))
    print(f"{path}: to go with the checkpoint as its README.md", file=sys.stderr)
