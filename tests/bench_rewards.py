"""How long a replay takes to judge, reward by reward. Run it as a program; nothing is asserted.

python -m tests.bench_rewards [--groups 12500]
"""

from __future__ import annotations

import argparse
import random
import time

from pipeline.config import RewardConfig
from pipeline.rewards import REWARDS, judge
from tests.pipeline.attempts import group_of, random_group

SIZE, REFERENCE, WRITTEN = 8, 20, 100  # rollouts, reference tokens, written tokens
DISTINCT = 250


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--groups", type=int, default=12_500)
    count = parser.parse_args().groups
    rng = random.Random(0)
    groups = [random_group(rng, SIZE, REFERENCE, WRITTEN) for _ in range(DISTINCT)]
    group = group_of(SIZE)
    configs = {name: RewardConfig(name=name) for name in REWARDS}
    configs["rule, noise, backward, rank"] = RewardConfig(
        name="rule", noise=0.1, correction="backward", false_positive=0.1, transform="rank"
    )
    for name, config in configs.items():
        began = time.process_time()
        for number in range(count):
            judge(group, groups[number % DISTINCT], config)
        print(
            f"{name:28} {time.process_time() - began:6.2f} s of one core, {count * SIZE} rollouts"
        )


if __name__ == "__main__":
    main()
