"""``plaudit parity``: the scores that are served beside those of plain Transformers.

The reference is Transformers in fp32, one sequence at a time. Compared are the packed forward and,
with ``--engine vllm``, that engine. Letters: N sequences.
"""

import argparse
import asyncio
import gzip
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from plaudit import probes
from plaudit.checkpoint import CheckpointError, Message
from plaudit.conversation import ConversationError
from plaudit.joint_model import Asked, JointModel
from plaudit.prefix_cache import PrefixCache
from plaudit.reward_model import DTYPES, RewardModel, Scores, pick_device
from service.engines.choice import engine_of
from service.fair_queue import Caller
from service.member import Engine
from service.metrics import Metrics
from service.settings import Dtype, Settings

Pairs = list[tuple[int, int]]
DETERMINISTIC = "torch, deterministic"
PREFIX_BYTES = 512 * 2**20


class ParityError(ValueError):
    """Data that cannot be scored; the text says where and what mends it."""


class PairRow(msgspec.Struct):
    """A line of ``--data``; other fields are left alone."""

    prompt: list[Message]
    chosen: str
    rejected: str


class Row(msgspec.Struct, frozen=True):
    """One way to score beside the reference, in the units of raw scores.

    A flip is a pair that loses the order it has in the reference, to the other or to a tie; a
    strong one has a reference margin over ``--margin``. A tie is a pair with equal scores.
    ``neighbours`` is the largest difference of a score between batch compositions and None where
    there is only one.
    """

    name: str
    dtype: str
    largest_difference: float
    flips: int
    strong_flips: int
    ties: int
    neighbours: float | None


class Report(msgspec.Struct, frozen=True):
    """Everything that was compared, under which limits, and what went beyond them."""

    model: str
    revision: str
    device: str
    sequences: int
    pairs: int
    tolerance: float
    margin: float
    rows: list[Row]
    failures: list[str]


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    report = compare(options)
    print(table(report))
    for failure in report.failures:
        print(f"plaudit parity: {failure}", file=sys.stderr)
    if options.json is not None:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n")
    return 1 if report.failures else 0


def parser() -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(
        prog="plaudit parity",
        allow_abbrev=False,
        description=__doc__,
        epilog="exit status: 0 within the limits, 1 beyond one of them, 2 for bad input",
    )
    found.add_argument("model", type=Path, help="checkpoint directory")
    found.add_argument("--data", type=Path, help="JSON lines of pairs: prompt, chosen, rejected")
    found.add_argument(
        "--pairs", type=int, default=200, help="lines of --data to read; default: %(default)s"
    )
    found.add_argument(
        "--engine", choices=("torch", "vllm"), default="torch", help="vllm: compare it as well"
    )
    found.add_argument(
        "--vllm-memory", type=float, default=0.4, help="share of memory for it: %(default)s"
    )
    found.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    found.add_argument(
        "--max-batch-tokens", type=int, default=8192, help="tokens in one forward: %(default)s"
    )
    found.add_argument(
        "--tolerance", type=float, default=1e-5, help="on an fp32 score; default: %(default)s"
    )
    found.add_argument(
        "--margin",
        type=float,
        default=0.05,
        help="pairs further apart than this in the reference must keep their order in bf16; "
        "default: %(default)s",
    )
    found.add_argument("--json", type=Path, metavar="FILE", help="write the report here")
    return found


def compare(options: argparse.Namespace) -> Report:
    """Score the probes' conversations and the data every way there is."""
    if options.engine == "vllm" and options.device != "auto":
        raise ParityError("--device is torch's alone: leave it out with --engine vllm")
    engines = {dtype: vllm_engine(options, dtype) for dtype in DTYPES if options.engine == "vllm"}
    device = pick_device(options.device)
    model = RewardModel.load(options.model, options.device, "float32")
    rows = read(options.data, options.pairs) if options.data is not None else []
    sequences, pairs = encode(model, rows)
    reference = plain(options.model, sequences, "float32", device)
    found = []
    for dtype in DTYPES:
        if dtype != "float32":
            alone = plain(options.model, sequences, dtype, device)
            found.append(row("transformers", dtype, [alone], reference, pairs, options.margin))
            model = RewardModel.load(options.model, options.device, dtype)
        ways = compositions(model, sequences, options.max_batch_tokens)
        found.append(row("torch", dtype, ways, reference, pairs, options.margin))
        if model.packs:
            model.make_deterministic()
            ways = compositions(model, sequences, options.max_batch_tokens)
            found.append(row(DETERMINISTIC, dtype, ways, reference, pairs, options.margin))
        if dtype in engines:
            ways = asyncio.run(served(engines[dtype], options.model, sequences))
            found.append(row("vllm", dtype, ways, reference, pairs, options.margin))
    return Report(
        model=str(options.model),
        revision=model.revision,
        device=device.type,
        sequences=len(sequences),
        pairs=len(pairs),
        tolerance=options.tolerance,
        margin=options.margin,
        rows=found,
        failures=list(failures(found, options.tolerance, options.margin)),
    )


def read(path: Path, count: int) -> list[PairRow]:
    if not path.is_file():
        raise ParityError(f"{path}: no such file")
    rows: list[PairRow] = []
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if len(rows) == count:
                break
            try:
                rows.append(msgspec.json.decode(line, type=PairRow))
            except msgspec.MsgspecError as error:
                raise ParityError(f"{path}:{number}: {error}") from None
    return rows


def encode(model: RewardModel, rows: Sequence[PairRow]) -> tuple[list[list[int]], Pairs]:
    """Token ids of the probes' conversations and of both responses of each row, cut at the
    checkpoint's side, and which of them are pairs."""
    encoder, side = model.encoder, model.manifest.truncation_side
    sequences = probes.encode(model, probes.conversations()) if encoder.has_template else []
    first = len(sequences)
    for number, line in enumerate(rows, start=1):
        for response in (line.chosen, line.rejected):
            try:
                sequences.append(encoder.fit(encoder.pair(line.prompt, response), side).ids)
            except ConversationError as error:
                raise ParityError(f"row {number} of --data: {error}") from None
    if not sequences:
        raise CheckpointError("no chat template, so no probes: give --data of a templated model")
    return sequences, [(i, i + 1) for i in range(first, len(sequences), 2)]


@torch.inference_mode()
def plain(
    directory: Path, sequences: Iterable[Sequence[int]], dtype: str, device: torch.device
) -> Scores:
    """Scores (N,) of Transformers' own classifier, one sequence at a time."""
    model = AutoModelForSequenceClassification.from_pretrained(
        directory, dtype=DTYPES[dtype], use_safetensors=True, trust_remote_code=False
    )
    if getattr(model.config, "attn_logit_softcapping", None):
        model.set_attn_implementation("eager")  # the others leave soft caps out
    model = model.to(device).eval()
    found = [model(torch.tensor([ids], device=device)).logits[0, 0] for ids in sequences]
    return torch.stack(found).float().cpu().numpy()


def compositions(
    model: RewardModel, sequences: Sequence[Sequence[int]], max_tokens: int
) -> list[Scores]:
    """Scores (N,) alone; then with prefixes remembered, as they are served: in the service's
    batches, in smaller ones of other neighbours, and one by one."""
    joint = JointModel(model, PrefixCache(PREFIX_BYTES))
    asked = [Asked(0, ids) for ids in sequences]
    alone = np.concatenate([joint.compute([one], remember=False).scores for one in asked])
    together = joint.score_all(asked, max_tokens)
    mixed = np.empty_like(alone)
    for half in halves(len(asked)):
        mixed[half] = joint.score_all([asked[i] for i in half], max_tokens // 4)
    one_by_one = np.concatenate([joint.compute([one]).scores for one in asked])
    return [alone, together, mixed, one_by_one]


def halves(count: int) -> list[np.ndarray[Any, Any]]:
    """Those of a random order: a sequence meets half of its neighbours again."""
    return np.array_split(np.random.default_rng(0).permutation(count), 2)


def vllm_engine(options: argparse.Namespace, dtype: str) -> Engine:
    """Not started yet; SettingsError where vLLM is not installed."""
    settings = Settings.model_construct(  # by the options alone, not by the environment
        engine="vllm",
        dtype=cast(Dtype, dtype),
        models=[options.model],
        max_batch_tokens=options.max_batch_tokens,
        vllm_memory=options.vllm_memory,
    )
    return engine_of(settings, Metrics())


async def served(
    engine: Engine, directory: Path, sequences: Sequence[Sequence[int]]
) -> list[Scores]:
    """Scores (N,) of an engine, asked for one by one, at once, and in halves."""
    try:
        member = (await engine.open({"model": directory}))["model"]

        async def scores(some: Iterable[int]) -> Scores:
            works = [member.submit(sequences[i], Caller()) for i in some]
            return np.array(await asyncio.gather(*(work.done for work in works)), np.float32)

        everything = range(len(sequences))
        alone = np.concatenate([await scores([i]) for i in everything])
        together = await scores(everything)
        mixed = np.empty_like(alone)
        for half in halves(len(sequences)):
            mixed[half] = await scores(half)
    finally:
        await engine.close()
    return [alone, together, mixed]


def row(
    name: str, dtype: str, ways: Sequence[Scores], reference: Scores, pairs: Pairs, margin: float
) -> Row:
    """Differences are the largest over all compositions; flips and ties are those when alone."""
    stacked = np.stack(ways)
    left, right = np.array(pairs, int).reshape(-1, 2).T
    expected, found = (scores[left] - scores[right] for scores in (reference, ways[0]))
    flipped = (np.sign(expected) != np.sign(found)) & (expected != 0)
    return Row(
        name=name,
        dtype=dtype,
        largest_difference=float(np.abs(stacked - reference).max()),
        flips=int(flipped.sum()),
        strong_flips=int((flipped & (np.abs(expected) > margin)).sum()),
        ties=int((found == 0).sum()),
        neighbours=float(np.ptp(stacked, axis=0).max()) if len(ways) > 1 else None,
    )


def failures(rows: Iterable[Row], tolerance: float, margin: float) -> Iterable[str]:
    """What is beyond the limits. Transformers' own rows are there to compare, not to judge.

    ``not … <=`` so that a score that is not a number fails too.
    """
    for one in rows:
        if one.name == "transformers":
            continue
        if one.dtype == "float32" and not one.largest_difference <= tolerance:
            yield (
                f"{one.name} {one.dtype}: a score is off by {one.largest_difference:.3g}, "
                f"the tolerance is {tolerance:g}"
            )
        if one.name == DETERMINISTIC and one.neighbours != 0:
            yield f"{one.name} {one.dtype}: a score changes with its neighbours"
        if not np.isfinite(one.largest_difference):
            yield f"{one.name} {one.dtype}: a score is not finite"
        if one.strong_flips:
            yield (
                f"{one.name} {one.dtype}: {one.strong_flips} pairs with a margin over {margin:g} "
                "lose their order"
            )


def table(report: Report) -> str:
    """The rows as Markdown, below what was scored."""
    lines = [
        f"{report.model} ({report.revision[:19]}) on {report.device}: {report.sequences} "
        f"sequences, {report.pairs} pairs, against Transformers in fp32, one sequence at a time",
        "",
        f"| scored by | dtype | largest difference | between batches | flips | flips over "
        f"{report.margin:g} | ties |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [cells(one) for one in report.rows]
    return "\n".join(lines)


def cells(one: Row) -> str:
    between = "" if one.neighbours is None else f"{one.neighbours:.2g}"
    values: list[Any] = [
        one.name, one.dtype, f"{one.largest_difference:.2g}", between,
        one.flips, one.strong_flips, one.ties,
    ]  # fmt: skip
    return f"| {' | '.join(map(str, values))} |"
