"""Which pairs choose an average and look for falls, and which its reported accuracy is of.

Never the same ones: what was chosen by some pairs looks better on them than it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from plaudit.checkpoint import CheckpointError, Manifest
from plaudit.conversation import Encoder
from training import settings
from training.connectivity import MIN_PROMPTS
from training.data.encoding import EncodedPair
from training.data.splits import halves
from training.settings import SettingsError, TrainSettings
from training.training_data import read, validation_pairs


@dataclass(frozen=True)
class Sides:
    """``selection`` pairs choose and scan; ``reference`` pairs give the statistics; of these the
    accuracy is reported that are ``reported``."""

    selection: list[EncodedPair]
    reference: list[EncodedPair]
    reported: list[bool]
    named: str

    @classmethod
    def of(
        cls, directory: Path, manifest: Manifest, data: Path | None, selection: Path | None
    ) -> "Sides":
        """The validation side of ``data`` (default: that of the member in ``directory``), halved by
        prompts; or all of it is reported, and ``selection`` names the settings of the others."""
        encoder = Encoder.load(directory, manifest.max_tokens)
        reference = pairs_of(_config(directory, manifest, data), encoder, manifest)
        if selection is None:
            selects, _ = halves(
                range(len(reference)), lambda place: reference[place].pair.first_turn, "selection"
            )
            own, chosen = [reference[place] for place in selects], set(selects)
            reported = [place not in chosen for place in range(len(reference))]
            return cls(own, reference, reported, "validation, halved")
        others = pairs_of(settings.load(TrainSettings, selection), encoder, manifest)
        refuse_reported(selection, others, reference)
        return cls(others, reference, [True] * len(reference), str(selection))

    @property
    def measured(self) -> list[EncodedPair]:
        """The pairs of the reference whose accuracy is reported."""
        return [one for one, wanted in zip(self.reference, self.reported, strict=True) if wanted]

    def check(self, selects: bool) -> None:
        """Refuse too few pairs: on either side none, or to select by."""
        needed = {"selection": MIN_PROMPTS if selects else 1, "reported": 1}
        for name, pairs in (("selection", self.selection), ("reported", self.measured)):
            count = len(prompts(pairs))
            if count < needed[name]:
                raise SettingsError(
                    f"the {name} side has pairs of {count} prompts; it needs at least "
                    f"{needed[name]}. Raise validation_pairs or split.validation in the settings "
                    "of --data, or name others that select: --selection FILE"
                )


def pairs_of(config: TrainSettings, encoder: Encoder, manifest: Manifest) -> list[EncodedPair]:
    """The validation pairs of some settings, as the members read them."""
    return validation_pairs(config, read(config), encoder, manifest.truncation_side)


def _config(directory: Path, manifest: Manifest, data: Path | None) -> TrainSettings:
    if data is not None:
        return settings.load(TrainSettings, data)
    recorded = manifest.training.get("settings")
    if recorded is None:
        raise CheckpointError(f"{directory}: training.settings is missing; give --data")
    return settings.parse(TrainSettings, recorded, f"{directory}: training.settings")


def prompts(pairs: Sequence[EncodedPair]) -> set[str]:
    """As splits tell them apart."""
    return {one.pair.first_turn.strip() for one in pairs}


def refuse_reported(
    selection: Path, others: Sequence[EncodedPair], reference: Sequence[EncodedPair]
) -> None:
    shared = len(prompts(others) & prompts(reference))
    if shared:
        raise SettingsError(
            f"{selection}: {shared} of its prompts are among the reported pairs, on which nothing "
            "may be selected; name other sources or another split"
        )
