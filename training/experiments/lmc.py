"""Do members of one base stay above the straight line between them, and others fall below it?

After WARM (arXiv:2401.12187 section 3). The backbone is the lowest blocks of SmolLM2-135M, whose
top block or upper blocks ``plaudit train`` trains on short pairs of RMB: members of one base, and
each of a base of its own, in which the top block, the upper ones, or every one is drawn anew.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from transformers import AutoModelForCausalLM

from plaudit import checkpoint
from plaudit.checkpoint import CheckpointError, Manifest
from plaudit.conversation import Encoder
from training import average, connectivity
from training.backbone import layers_of
from training.blend import Blend
from training.connectivity import Line, Scan
from training.connectivity_drawing import frame, plot
from training.data.encoding import EncodedPair, encode
from training.data.sources import Source, load
from training.data.splits import Split, sample_prompts
from training.drawing import svg
from training.experiments import smollm2
from training.experiments.datasets import rmb_pairs, write_short
from training.experiments.result import Result, table
from training.settings import SettingsError, TrainSettings
from training.train import train
from training.warm import ALLOWED

SPLIT = Split(validation=0.4, test=0)
FALL = 0.05
ONE_BASE, TOP_ANEW, ALL_ANEW = "one base", "top block drawn anew", "all blocks drawn anew"
UPPER_ANEW = "upper six drawn anew and trained"
COLOURS = {ONE_BASE: "C0", TOP_ANEW: "C2", UPPER_ANEW: "C3", ALL_ANEW: "C1"}


@dataclass(frozen=True)
class Kind:
    """Of a base's blocks from the top: how many are drawn anew for each member, how many train."""

    drawn: int
    trained: int = 1
    lr: float = 1e-3


@dataclass(frozen=True)
class Size:
    """Pairs of at most ``max_tokens``, and members of the lowest ``blocks`` blocks."""

    blocks: int
    kinds: dict[str, Kind]
    max_tokens: int
    train_pairs: int | None
    held_out: int | None
    epochs: int
    members: int
    points: int


KINDS = {
    ONE_BASE: Kind(drawn=0),
    TOP_ANEW: Kind(drawn=1),
    UPPER_ANEW: Kind(drawn=6, trained=6, lr=3e-4),
    ALL_ANEW: Kind(drawn=8),
}
FULL = Size(8, KINDS, 160, None, None, 3, members=3, points=11)
QUICK = Size(
    8, {name: KINDS[name] for name in (ONE_BASE, ALL_ANEW)}, 96, 150, 150, 3, members=2, points=3
)


@dataclass(frozen=True)
class Group:
    """Members made alike: their lines, how averaging them is refused, and how accurate each is."""

    scan: Scan
    by_digest: str | None
    by_gate: str | None

    @property
    def lines(self) -> list[Line]:
        return self.scan.lines


def run(data: Path, quick: bool) -> Result:
    """Three members of each kind at eleven places; ``quick``: two at the middle, of few pairs."""
    smollm2.require()
    size = QUICK if quick else FULL
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory)
        base = smollm2.lowest_blocks(size.blocks, root / "base")
        write_short(rmb_pairs(data), size.max_tokens, short := root / "pairs.jsonl")
        held_out = pairs(size, short, base)
        found = {
            name: group(members(size, kind, short, base, root / str(place)), held_out, size)
            for place, (name, kind) in enumerate(size.kinds.items())
        }
    return result(found, size, quick)


def members(size: Size, kind: Kind, data: Path, base: Path, root: Path) -> list[Path]:
    """Members of ``base``, or each of a base of its own."""
    found = []
    for seed in range(size.members):
        own = drawn_anew(base, kind.drawn, root / f"base-{seed}", seed) if kind.drawn else base
        found.append(trained(size, kind, data, own, root / f"member-{seed}", seed))
    return found


def drawn_anew(base: Path, count: int, out: Path, seed: int) -> Path:
    """A base whose top blocks are from the model's own initialisation, by ``seed``."""
    model = AutoModelForCausalLM.from_pretrained(base)
    torch.manual_seed(seed)
    fresh = layers_of(AutoModelForCausalLM.from_config(model.config, dtype=model.dtype))
    layers = layers_of(model)
    for place in range(len(layers) - count, len(layers)):
        layers[place] = fresh[place]
    smollm2.save(model, out)
    return out


def trained(size: Size, kind: Kind, data: Path, base: Path, out: Path, seed: int) -> Path:
    """A member of ``base``."""
    train(
        TrainSettings(
            model=str(base),
            out=out,
            sources=[Source(name="rmb", path=data, max_pairs=size.train_pairs)],
            split=SPLIT,
            max_tokens=size.max_tokens,
            validation_pairs=20,  # they give the statistics, which nothing here reads
            train_layers=kind.trained,
            trunk_cache=base.with_suffix(f".{kind.trained}.safetensors"),
            epochs=size.epochs,
            lr=kind.lr,
            batch_pairs=8,
            seed=seed,
            save_steps=10_000,
            log_to=[],
        )
    )
    return out


def pairs(size: Size, data: Path, base: Path) -> list[EncodedPair]:
    """Held-out pairs of the lengths that were trained on."""
    known = load(Source(name="rmb", path=data)).pairs
    side = [pair for pair in known if SPLIT.side(pair) == "validation"]
    found, _ = encode(side, Encoder.load(base, size.max_tokens), None)
    if size.held_out is None:
        return found
    return sample_prompts(found, size.held_out, key=lambda one: one.pair)


def group(directories: Sequence[Path], held_out: Sequence[EncodedPair], size: Size) -> Group:
    """The lines between members, by the functions under the refusals."""
    manifests = [checkpoint.read(directory)[0] for directory in directories]
    blend = Blend(directories, manifests[0])
    scan = connectivity.scan(
        blend,
        {place: f"member {place}" for place in range(len(directories))},
        blend.prepare(held_out),
        [one.pair.first_turn for one in held_out],
        size.points,
        ALLOWED,
    )
    return Group(scan, digest_refusal(directories, manifests), gate_refusal(scan))


def digest_refusal(directories: Sequence[Path], manifests: Sequence[Manifest]) -> str | None:
    try:
        average.check(directories, manifests)
    except CheckpointError as error:
        return str(error)
    return None


def gate_refusal(scan: Scan) -> str | None:
    try:
        scan.refuse_fallen()
    except SettingsError as error:
        return str(error)
    return None


def result(found: dict[str, Group], size: Size, quick: bool) -> Result:
    return Result(
        tables=[_lines(found), _refusals(found)],
        figure=_draw(found),
        figures={"size": asdict(size)} | {name: _summary(one) for name, one in found.items()},
        failures=[claim for claim, held in _claims(found, quick).items() if not held],
    )


def _claims(found: dict[str, Group], quick: bool) -> dict[str, bool]:
    """What is to be shown; ``quick`` has too few pairs for more than the direction."""
    one, anew = found[ONE_BASE], found[ALL_ANEW]
    highest = max(line.depth.value for line in one.lines)
    claims = {
        "members of one base are averaged": one.by_digest is None and one.by_gate is None,
        "members of unlike bases are refused by digest": all(
            "base.digest" in (other.by_digest or "")
            for name, other in found.items()
            if name != ONE_BASE
        ),
        "lines fall further where all is drawn anew": all(
            line.depth.value > highest for line in anew.lines
        ),
    }
    if quick:
        return claims
    return claims | {
        "no line of one base is shown to fall": not any(line.falls(0.0) for line in one.lines),
        "they fall 5 points": all(line.depth.value >= FALL for line in anew.lines),
        "the gate refuses them too": anew.by_gate is not None,
    }


def _lines(found: dict[str, Group]) -> str:
    header = ["members", "of", "first", "middle", "second", "lowest at", "from the straight line"]
    rows = [
        [
            f"{line.first}, {line.second}",
            name,
            *(f"{line.accuracies[place].value:.3f}" for place in (0, len(line.places) // 2, -1)),
            f"{line.places[line.lowest]:.2f}",
            f"{line.above:+.3f}",
        ]
        for name, one in found.items()
        for line in one.lines
    ]
    return table(header, rows)


def _refusals(found: dict[str, Group]) -> str:
    rows = [
        [name, "refused" if one.by_digest else "no", f"{len(one.scan.fallen)} of {len(one.lines)}"]
        for name, one in found.items()
    ]
    return table(["members of", "refused by digest", "lines that the gate refuses"], rows)


def _summary(one: Group) -> dict[str, object]:
    return one.scan.summary() | {"by_digest": one.by_digest, "by_gate": one.by_gate}


def _draw(found: dict[str, Group]) -> str:
    def panel(figure: Figure) -> None:
        axes = figure.subplots()
        frame(axes, ALLOWED)
        for name, one in found.items():
            for number, line in enumerate(one.lines):
                plot(axes, line, COLOURS[name], None if number else name)
        axes.legend(frameon=False)

    return svg(panel, width=4.6, height=3.2)
