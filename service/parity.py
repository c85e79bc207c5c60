"""``plaudit parity``: the scores that are served beside those of plain Transformers.

The reference is Transformers in fp32, one sequence at a time. Compared are the packed forward and,
with ``--engine vllm`` and ``--int8``, that engine and int8 weights: by their scores, and by the
order of all pairs of probes, or of the pairs of ``--data``. Letters: N sequences.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np
import torch
from transformers import AutoModelForSequenceClassification

from plaudit import int8, probes
from plaudit.checkpoint import CheckpointError
from plaudit.conversation import ConversationError
from plaudit.joint_model import Asked, JointModel
from plaudit.prefix_cache import PrefixCache
from plaudit.reward_model import DTYPES, RewardModel, Scores, pick_device
from service.engines.choice import engine_of
from service.fair_queue import Caller
from service.member import Engine
from service.metrics import Metrics
from service.parity_data import DataRow, ParityError, read
from service.parity_report import (
    DETERMINISTIC,
    Pairs,
    Report,
    Row,
    failures,
    row,
    strong,
    table,
)
from service.settings import Dtype, Settings

PREFIX_BYTES = 512 * 2**20


def main(argv: Sequence[str]) -> int:
    options = parser().parse_args(argv)
    report = compare(options)
    print(table(report))
    if not report.strong_pairs:
        print(
            f"plaudit parity: no pair is further apart than {report.margin:g} in the reference, so "
            "no order was judged: give more --data or a smaller --margin",
            file=sys.stderr,
        )
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
    found.add_argument(
        "--data",
        type=Path,
        help="JSON lines of prompt, chosen and rejected, or of prompt and responses: each two "
        "responses of a line are a pair; without it, each two of the probes are",
    )
    found.add_argument(
        "--pairs", type=int, default=200, help="lines of --data to read; default: %(default)s"
    )
    found.add_argument(
        "--engine", choices=("torch", "vllm"), default="torch", help="vllm: compare it as well"
    )
    found.add_argument(
        "--vllm-memory", type=float, default=0.4, help="share of memory for it: %(default)s"
    )
    found.add_argument("--int8", action="store_true", help="compare int8 weights as well")
    found.add_argument("--flex", action="store_true", help="compare FlexAttention as well")
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
        help="pairs further apart than this in the reference, in raw scores, must keep their order "
        "in every dtype; default: %(default)s",
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
    if options.int8:
        int8.refuse_unproven(model.classifier)
    rows = read(options.data, options.pairs) if options.data is not None else None
    sequences, pairs = encode(model, rows)
    reference = plain(options.model, sequences, "float32", device)
    found = []
    judged = partial(row, reference=reference, pairs=pairs, margin=options.margin)
    modes = partial(
        all_modes, sequences=sequences, max_tokens=options.max_batch_tokens, flex=options.flex,
        judged=judged,
    )  # fmt: skip
    for dtype in DTYPES:
        if dtype != "float32":
            alone = plain(options.model, sequences, dtype, device)
            found.append(judged("transformers", dtype, [alone]))
            model = RewardModel.load(options.model, options.device, dtype)
        found += modes(model, dtype)
        if dtype in engines:
            ways = asyncio.run(served(engines[dtype], options.model, sequences))
            found.append(judged("vllm", dtype, ways))
    if options.int8:
        model = RewardModel.load(options.model, options.device, int8.NAME)
        found += modes(model, int8.NAME)
    return Report(
        model=str(options.model),
        revision=model.revision,
        device=device.type,
        sequences=len(sequences),
        pairs=len(pairs),
        strong_pairs=strong(reference, pairs, options.margin),
        tolerance=options.tolerance,
        margin=options.margin,
        rows=found,
        failures=list(failures(found, options.tolerance, options.margin)),
    )


def all_modes(
    model: RewardModel,
    dtype: str,
    *,
    sequences: Sequence[Sequence[int]],
    max_tokens: int,
    flex: bool,
    judged: Callable[[str, str, Sequence[Scores]], Row],
) -> Iterable[Row]:
    """The model as it is loaded, with FlexAttention on request, and deterministic, which it is from
    then on."""
    yield judged("torch", dtype, compositions(model, sequences, max_tokens))
    if flex:
        model.use_flex_attention()
        yield judged("torch, flex", dtype, compositions(model, sequences, max_tokens))
    if model.packs:
        model.make_deterministic()
        yield judged(DETERMINISTIC, dtype, compositions(model, sequences, max_tokens))


def encode(model: RewardModel, rows: Sequence[DataRow] | None) -> tuple[list[list[int]], Pairs]:
    """Token ids of the probes' conversations and of the responses of each row, cut at the
    checkpoint's side. Pairs are each two of a row, or where there are no rows each two probes."""
    encoder, side = model.encoder, model.manifest.truncation_side
    sequences = probes.encode(model, probes.conversations()) if encoder.has_template else []
    pairs = list(combinations(range(len(sequences)), 2)) if rows is None else []
    for number, line in enumerate(rows or [], start=1):
        first = len(sequences)
        for response in line.texts():
            try:
                sequences.append(encoder.fit(encoder.pair(line.prompt, response), side).ids)
            except ConversationError as error:
                raise ParityError(f"row {number} of --data: {error}") from None
        pairs += combinations(range(first, len(sequences)), 2)
    if not sequences:
        raise CheckpointError("no chat template, so no probes: give --data of a templated model")
    return sequences, pairs


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
