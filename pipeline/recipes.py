"""Recipes: published methods as settings of ours, by name.

A recipe says how rewards are compared and learned from, and which reward where the method is one.
Everything else, sizes and rates included, stays as it is set. A run stores the settings, not the
name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Recipe:
    """A published method out of our parts.

    settings  key=value by dotted key, as the command line takes them
    source    where it was published
    note      what of it is another here, or what it asks for beside; "" where nothing
    """

    settings: tuple[str, ...]
    source: str
    note: str = ""


def _learn(*settings: str) -> tuple[str, ...]:
    """These, with keys of the objective where they name no section, and no answer term."""
    keyed = (one if "." in one.partition("=")[0] else f"objective.{one}" for one in settings)
    return ("objective.answer_term=0.0", *keyed)


_ONE_SUM = "the divergence is one sum over an attempt; the paper charges each token from there on"
_PPO = ("surrogate=clip", "clip_low=0.2", "clip_high=0.2")

RECIPES: dict[str, Recipe] = {
    "grpo": Recipe(
        _learn("advantage=grpo", *_PPO, "aggregate=sequence", "kl=0.04", "divergence=k3"),
        "arXiv 2402.03300",
    ),
    "dr_grpo": Recipe(
        _learn("advantage=dr_grpo", *_PPO, "aggregate=budget"),
        "arXiv 2503.20783",
    ),
    "dapo": Recipe(
        _learn(
            "advantage=grpo",
            "surrogate=clip",
            "clip_low=0.2",
            "clip_high=0.28",
            "aggregate=token",
            "resample=4",
        ),
        "arXiv 2503.14476",
        "without its penalty for length; sampling again ends after four turns",
    ),
    "rloo": Recipe(
        _learn(
            "advantage=rloo",
            "surrogate=product",
            "clip_low=0.2",
            "clip_high=0.2",
            "aggregate=sequence",
            "reward.mix.kl=0.05",
        ),
        "arXiv 2402.14740, clipped and with the divergence in the reward as TRL does",
    ),
    "gspo": Recipe(
        _learn(
            "advantage=grpo",
            "surrogate=gspo",
            "clip_low=3e-4",
            "clip_high=4e-4",
            "aggregate=sequence",
        ),
        "arXiv 2507.18071",
    ),
    "luspo": Recipe(
        _learn(
            "advantage=grpo",
            "surrogate=gspo",
            "clip_low=3e-4",
            "clip_high=4e-4",
            "aggregate=sum",
        ),
        "arXiv 2602.05261",
    ),
    "cispo": Recipe(
        _learn(
            "advantage=grpo",
            "surrogate=cispo",
            "clip_low=1.0",
            "clip_high=4.0",
            "aggregate=token",
        ),
        "arXiv 2506.13585, its cap of 5 from arXiv 2510.13786",
    ),
    "sapo": Recipe(
        _learn("advantage=grpo", "surrogate=sapo", "aggregate=sequence"),
        "arXiv 2511.20347",
    ),
    "dppo": Recipe(
        _learn("advantage=dr_grpo", "surrogate=dppo", "aggregate=token"),
        "arXiv 2602.04879, as prime-rl has it",
    ),
    "opo": Recipe(
        _learn("advantage=opo", "surrogate=pg", "aggregate=token"),
        "arXiv 2505.23585",
    ),
    "maxrl": Recipe(
        _learn("advantage=maxrl", *_PPO, "aggregate=token"),
        "arXiv 2602.02710",
        "made for rewards of 1 and 0; none below 0 is taken",
    ),
    "tempo": Recipe(
        _learn("advantage=tempo", *_PPO, "aggregate=token"),
        "arXiv 2509.18314",
    ),
    "reinforce_pp": Recipe(
        _learn("advantage=reinforce_pp", *_PPO, "aggregate=token", "reward.mix.kl=0.01"),
        "arXiv 2501.03262",
        _ONE_SUM,
    ),
    "reinforce_pp_baseline": Recipe(
        _learn("advantage=reinforce_pp_baseline", *_PPO, "aggregate=token", "reward.mix.kl=0.01"),
        "arXiv 2501.03262",
        _ONE_SUM,
    ),
    "remax": Recipe(
        _learn("reward.name=mean_probability", "advantage=remax", "surrogate=pg", "aggregate=sum"),
        "arXiv 2310.10505",
        "the reward must judge an attempt without its siblings; mean_probability is one",
    ),
    "psr": Recipe(
        _learn("reward.name=rule", "advantage=psr", *_PPO, "aggregate=token"),
        "arXiv 2506.01347",
        "a rule tells right from wrong; any reward of 1 and 0 will do",
    ),
    "nsr": Recipe(
        _learn("reward.name=rule", "advantage=nsr", *_PPO, "aggregate=token"),
        "arXiv 2506.01347",
        "a rule tells right from wrong; any reward of 1 and 0 will do",
    ),
    "w_reinforce": Recipe(
        _learn("reward.name=rule", "advantage=w_reinforce", *_PPO, "aggregate=token"),
        "arXiv 2506.01347",
        "a rule tells right from wrong; any reward of 1 and 0 will do",
    ),
    "pacs": Recipe(
        _learn("reward.name=rule", "advantage=rloo", "surrogate=pacs", "aggregate=sequence"),
        "arXiv 2509.02522",
        "a rule tells right from wrong; any reward of 1 and 0 will do",
    ),
    "pure": Recipe(
        _learn("advantage=pure_min", *_PPO, "aggregate=token"),
        "arXiv 2504.15275",
        "its process rewards alone; asks for the meter of steps",
    ),
    "verifree": Recipe(
        (
            "reward.name=verifree",
            "objective.answer_term=1.0",
            "objective.advantage=rloo",
            "objective.surrogate=pg",
            "objective.aggregate=sum",
        ),
        "arXiv 2505.21493",
        "the sampled answer carries the advantage too, whose mean there is 0",
    ),
    "rlpr": Recipe(
        _learn(
            "reward.name=rlpr",
            "advantage=grpo",
            "surrogate=clip",
            "clip_low=0.2",
            "clip_high=0.27",
            "aggregate=token",
            "spread_floor=0.05",
            "resample=2",
        ),
        "arXiv 2506.18254",
        "its filter has a fixed bar, sampling again ends after two turns, and what is probable "
        "without reasoning is the proxy's say, not the first policy's",
    ),
    "nover": Recipe(
        _learn(
            "reward.name=nover",
            "reward.variant=paper",
            "reward.form_weight=1.0",
            "reward.reasoning_weight=1.0",
            "reward.efficiency_weight=1.0",
            "sync.rule=ema",
            "sync.alpha=0.9",
            "advantage=grpo",
            "surrogate=clip",
            "clip_low=0.1",
            "clip_high=0.2",
            "aggregate=token",
            "kl=0.1",
            "divergence=k3",
        ),
        "arXiv 2505.16022",
        "the divergence is from the starting weights, where its code takes the proxy",
    ),
}
