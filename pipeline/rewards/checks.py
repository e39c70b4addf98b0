"""Which settings of rewards contradict each other, as only the table of rewards can tell."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.reward_config import RewardConfig
from pipeline.rewards import REWARDS, consulted


class Contradiction(ValueError):
    """Settings that exclude each other."""


def alone(config: RewardConfig) -> bool:
    """Whether a rollout's reward depends on nothing but itself."""
    return config.transform == "none" and all(REWARDS[name].alone for name in consulted(config))


def refuse(config: RewardConfig, advantage: str = "") -> None:
    """Raise Contradiction where the settings could not mean what they say."""
    if found := list(problems(config, advantage)):
        raise Contradiction("; ".join(found))


def problems(config: RewardConfig, advantage: str = "") -> Iterator[str]:
    """What contradicts, a sentence each, with its remedy.

    advantage  the objective's: "remax" compares with an attempt judged without siblings
    """
    if advantage == "remax" and not alone(config):
        yield (
            "objective.advantage 'remax' compares with an attempt judged alone, and "
            f"{_told(config)} compares a group; use another advantage, or a reward of each rollout "
            "alone"
        )
    verdicts = config.noise > 0 or config.correction != "none"
    scale = REWARDS[config.name].scale
    if verdicts and config.mix:
        yield (
            "reward.noise and reward.correction are of one verifier's verdicts, and reward.mix "
            "adds others; leave out one of them"
        )
    if verdicts and scale == "any":
        yield (
            f"reward.noise and reward.correction need rewards from 0 to 1, which {config.name!r} "
            "does not keep to; use 'rule', or turn them off"
        )
    if config.correction == "forward" and scale == "share":
        yield (
            f"reward.correction 'forward' needs verdicts of 0 and 1, and {config.name!r} gives "
            "shares; use 'backward'"
        )


def _told(config: RewardConfig) -> str:
    """What of the reward compares a group."""
    names = [name for name in consulted(config) if not REWARDS[name].alone]
    return f"reward {names[0]!r}" if names else f"reward.transform {config.transform!r}"
