"""What a member is trained on and measured with: pairs of its sources, chosen, cut, encoded."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from plaudit.checkpoint import Side
from plaudit.conversation import Encoder
from training.data import sources, splits
from training.data.encoding import EncodedPair, encode
from training.data.shapes import Pair
from training.data.sources import Loaded, Source
from training.length_bias.word_limits import with_limits
from training.meta import Shifted
from training.settings import DataSettings, SettingsError, TrainSettings


@dataclass(frozen=True)
class Data:
    """Pairs, encoded, and where they come from. ``region`` is the train side with the held-out
    fold, ``pairs`` without it, ``reference`` the validation pairs, ``shifted`` responses without
    labels."""

    loaded: Sequence[Loaded]
    region: Sequence[EncodedPair]
    pairs: Sequence[EncodedPair]
    reference: Sequence[EncodedPair]
    shifted: Shifted | None

    @classmethod
    def of(cls, config: TrainSettings, encoder: Encoder) -> "Data":
        loaded = read(config)
        region = train_region(config, loaded, encoder)
        pairs = [pair for pair in region if config.split.side(pair.pair) == "train"]
        if not pairs:
            raise SettingsError(
                "no pair is left to train on; raise max_tokens, the train share or the folds"
            )
        reference = validation_pairs(config, loaded, encoder, config.truncation_side)
        return cls(loaded, region, pairs, reference, Shifted.read(config, encoder))


def read(config: DataSettings) -> list[Loaded]:
    return sources.load_all(config.sources, sys.stdout)


def train_region(
    config: TrainSettings, loaded: Sequence[Loaded], encoder: Encoder
) -> list[EncodedPair]:
    """Pairs of every source on the train side, a held-out fold included; a source's two limits
    count those that fit the length limit.

    A cut may leave both responses of a pair alike; such a pair teaches nothing and is left out.
    """
    limit = config.train_max_tokens or config.max_tokens
    short = Encoder(encoder.tokenizer, encoder.vocab_size, limit)
    cut = config.truncation_side if config.overlong == "cut" else None
    whole_side = config.split.model_copy(update={"fold": None})
    found: list[EncodedPair] = []
    for one in loaded:
        if one.source.side == "validation":
            continue
        pairs, over, alike = unlike(splits.select(one.pairs, whole_side, "train", None), short, cut)
        pairs = sample(pairs, one.source)
        twins, *left_out = unlike(
            with_limits([pair.pair for pair in pairs], config.word_limits), short, cut
        )
        found += pairs + twins
        with_limit = f", {len(twins)} more with a word limit" if config.word_limits else ""
        print(
            f"{one.source.name}: {len(pairs)} pairs to train on{with_limit}; "
            f"{over + left_out[0]} over {limit} tokens, {alike + left_out[1]} alike after the cut",
            flush=True,
        )
    return found


def unlike(
    pairs: Sequence[Pair], encoder: Encoder, cut: Side | None
) -> tuple[list[EncodedPair], int, int]:
    """Encoded pairs, how many were over the limit, and how many were alike after the cut."""
    encoded, over = encode(pairs, encoder, cut)
    found = [pair for pair in encoded if pair.chosen != pair.rejected]
    return found, over, len(encoded) - len(found)


def sample(pairs: list[EncodedPair], source: Source) -> list[EncodedPair]:
    """As many of each prompt, and in all, as the source gives."""
    if source.pairs_per_prompt is not None:
        pairs = splits.sample_each_prompt(pairs, source.pairs_per_prompt, key=lambda e: e.pair)
    if source.max_pairs is not None:
        pairs = splits.sample_prompts(pairs, source.max_pairs, key=lambda e: e.pair)
    return pairs


def validation_pairs(
    config: TrainSettings, loaded: Sequence[Loaded], encoder: Encoder, side: Side
) -> list[EncodedPair]:
    """Validation pairs of every source, at most ``validation_pairs`` each, cut at ``side``."""
    pairs = [
        pair
        for one in loaded
        if one.source.side != "train"
        for pair in splits.select(one.pairs, config.split, "validation", config.validation_pairs)
    ]
    if not pairs:
        raise SettingsError(
            "no source has pairs on the validation side; raise split.validation, or add a source"
        )
    return encode(pairs, encoder, side)[0]
