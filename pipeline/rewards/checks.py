"""Which settings of rewards contradict each other, as only the table of rewards can tell."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.config import ObjectiveConfig, RewardConfig, RunConfig
from pipeline.meters import reading
from pipeline.rewards import REWARDS, consulted


class Contradiction(ValueError):
    """Settings that exclude each other."""


def alone(config: RewardConfig) -> bool:
    """Whether a rollout's reward depends on nothing but itself."""
    return config.transform == "none" and all(REWARDS[name].alone for name in consulted(config))


def refuse(config: RunConfig) -> None:
    """Raise Contradiction where the settings could not mean what they say."""
    if found := list(problems(config)):
        raise Contradiction("; ".join(found))


def problems(config: RunConfig) -> Iterator[str]:
    """What contradicts, a sentence each, with its remedy."""
    yield from _wrapped(config.reward)
    yield from _compared(config.reward, config.objective)
    yield from _served(config)
    wanted = reading(config)
    if "rubric" in wanted and not config.verifier.rubric:
        yield "the meter 'rubric' has nothing to ask; write its items into verifier.rubric"
    if "start" in wanted and config.solver.temperature != 1.0:
        yield (
            f"solver.temperature is {config.solver.temperature:g}, and the meter 'start' reads at "
            "1; sample at 1, or use objective.kl"
        )


def _served(config: RunConfig) -> Iterator[str]:
    """What a sampler in a process of its own cannot do."""
    if config.engine.sampler != "vllm":
        return
    asked = [name for name in ("certainty", "entropy") if name in reading(config)]
    if asked and config.verifier.certainty == "online":
        yield (
            f"the meter {asked[0]!r} reads whole distributions, which engine.sampler 'vllm' does "
            'not tell; use verifier.certainty="offline", or engine.sampler="local"'
        )
    for name, degree in (("solver", config.solver), ("generator", config.generator)):
        if not 0.01 <= degree.temperature <= 2.0:
            yield (
                f"{name}.temperature is {degree.temperature:g}, and engine.sampler 'vllm' takes "
                '0.01 to 2; set it within, or use engine.sampler="local"'
            )


def _wrapped(reward: RewardConfig) -> Iterator[str]:
    """What noise and its correction ask of a reward."""
    verdicts = reward.noise > 0 or reward.correction != "none"
    scale = REWARDS[reward.name].scale
    if verdicts and reward.mix:
        yield (
            "reward.noise and reward.correction are of one verifier's verdicts, and reward.mix "
            "adds others; leave out one of them"
        )
    if verdicts and scale == "any":
        yield (
            f"reward.noise and reward.correction need rewards from 0 to 1, which {reward.name!r} "
            "does not keep to; use 'rule', or turn them off"
        )
    if reward.correction == "forward" and scale == "share":
        yield (
            f"reward.correction 'forward' needs verdicts of 0 and 1, and {reward.name!r} gives "
            "shares; use 'backward'"
        )


def _compared(reward: RewardConfig, objective: ObjectiveConfig) -> Iterator[str]:
    """What an advantage or a surrogate asks of a reward."""
    name = objective.advantage
    if name == "remax" and not alone(reward):
        yield (
            "objective.advantage 'remax' compares with an attempt judged alone, and "
            f"{_told(reward)} compares a group; use another advantage, or a reward of each rollout "
            "alone"
        )
    if name == "maxrl" and not _at_least_nothing(reward):
        yield (
            f"objective.advantage 'maxrl' takes rewards of 0 or more, and {reward.name!r} with "
            "what is done to it may be less; use dr_grpo, or a reward such as 'mean_probability'"
        )
    binary = [f"objective.advantage {name!r}"] * (name in ("psr", "nsr", "w_reinforce"))
    binary += ["objective.surrogate 'pacs'"] * (objective.surrogate == "pacs")
    if binary and not _verdicts(reward):
        yield (
            f"{binary[0]} needs rewards of exactly 0 and 1, and {reward.name!r} with what is done "
            "to it gives others; use 'rule' or 'majority_vote' by itself"
        )
    if "kl" in consulted(reward) and name in ("grpo", "tempo"):
        yield (
            f"objective.advantage {name!r} divides by the deviation within a group, which would "
            "blow the reward 'kl' up where nothing else differs; use dr_grpo or rloo, or "
            "objective.kl"
        )


def _at_least_nothing(reward: RewardConfig) -> bool:
    names, weights = consulted(reward), (*reward.mix.values(), *reward.mix_end.values())
    corrected = reward.correction != "none" and reward.transform == "none"
    signed = any(REWARDS[name].signed for name in names)
    return not signed and not corrected and all(weight >= 0 for weight in weights)


def _verdicts(reward: RewardConfig) -> bool:
    """Whether every reward is exactly 0 or 1."""
    plain = not reward.mix and reward.transform == "none" and reward.correction == "none"
    return plain and REWARDS[reward.name].scale == "verdict"


def _told(config: RewardConfig) -> str:
    """What of the reward compares a group."""
    names = [name for name in consulted(config) if not REWARDS[name].alone]
    return f"reward {names[0]!r}" if names else f"reward.transform {config.transform!r}"
