"""What rewards of readings share: the gate, and a value per reading on its rollout's seat."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pipeline.measures import NotMeasurable
from pipeline.settings.reward import RewardConfig
from pipeline.types import Evidence, Reading


def admits(item: Evidence, config: RewardConfig) -> bool:
    """Whether the gate lets an attempt, measured or malformed, earn anything but form.

        strict   the well-formed alone: g = 1 where the form is "ok", else 0
        lenient  g = 1 for those with text outside the blocks too, else 0
        off      g = 1 for all, in any form

    Every term but form is multiplied by g, 0 or 1. What needs a reference scored earns 0 where none
    was. Source: strict is NOVER's rule, arXiv 2505.16022; the others are this project's.
    """
    if item.status == "measured" or config.gate == "off":
        return True
    return config.gate == "lenient" and item.detail == "text_outside"


def admitted(
    evidence: Sequence[Evidence], config: RewardConfig, meter: str
) -> list[Reading | None]:
    """The meter's readings [K], None where not measured or where the gate holds an attempt back.

    Raises NotMeasurable where a reading was never taken, or is measured without finite values; a
    reasoning without steps is measured and has none.
    """
    found: list[Reading | None] = []
    for item in evidence:
        reading = item.reading(meter)
        if reading is None:
            raise NotMeasurable(f"the reward reads {meter!r}, which was not measured")
        if reading.status == "measured" and not _usable(reading):
            raise NotMeasurable(f"the reading {meter!r} is measured but holds no finite values")
        kept = reading.status == "measured" and admits(item, config)
        found.append(reading if kept else None)
    return found


def earned(
    evidence: Sequence[Evidence],
    config: RewardConfig,
    meter: str,
    value: Callable[[tuple[float, ...]], float],
) -> tuple[float, ...]:
    """What each admitted reading's values are worth, on its seat; 0 elsewhere."""
    return tuple(
        0.0 if reading is None else value(reading.values)
        for reading in admitted(evidence, config, meter)
    )


def mean(values: Sequence[float]) -> float:
    """Of one value or more."""
    return sum(values) / len(values)


def share(value: float) -> float:
    """The same. Raises NotMeasurable outside [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise NotMeasurable(f"{value} is no share: it lies outside [0, 1]")
    return value


def _usable(reading: Reading) -> bool:
    return (bool(reading.values) or reading.source == "steps") and math.isfinite(
        sum(reading.values)
    )
