"""Where a panel turns from green to orange to red."""

from dataclasses import dataclass

from grafana_foundation_sdk.builders.dashboard import ThresholdsConfig
from grafana_foundation_sdk.models.dashboard import Threshold, ThresholdsMode


@dataclass(frozen=True)
class Levels:
    """Colours from the lowest value up; each but the first begins at its value."""

    steps: tuple[tuple[str, float | None], ...] = (("green", None),)

    def build(self) -> ThresholdsConfig:
        made = [Threshold(value=value, color=color) for color, value in self.steps]
        return ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(made)

    @property
    def drawn(self) -> bool:
        return len(self.steps) > 1


CALM = Levels()


def above(warn: float, alarm: float) -> Levels:
    """High is bad."""
    return Levels((("green", None), ("orange", warn), ("red", alarm)))


def below(warn: float, alarm: float) -> Levels:
    """Low is bad: under ``alarm`` is red, under ``warn`` orange."""
    return Levels((("red", None), ("orange", alarm), ("green", warn)))


def within(warn: float, alarm: float) -> Levels:
    """Far from zero is bad, on both sides."""
    return Levels(
        (("red", None), ("orange", -alarm), ("green", -warn), ("orange", warn), ("red", alarm))
    )
