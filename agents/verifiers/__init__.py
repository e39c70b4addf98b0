"""Verifiers: each a small file that measures; the tables name them as config does.

perplexity  the reference given the reasoning, and the consensus of a group's own answers
panel       a verifier with meters beside it

A meter reads one more thing of an attempt and says so in a reading of its own source:

certainty   how sure weights are along the completion; its entropy
unprompted  the completion with its question and without
steps       how probable each step of the reasoning is
cross       the group's answers under each of its reasonings
judge       the proxy's verdict on the answer, beside the reference
rubric      the proxy's verdicts on the items of a rubric
teacher     the vote of the proxy's own attempts

To add one, write its file and list it in METERS. What they share: tools (what each is made from),
readings, passes (one look for two meters), reasonings (answers scored under reasonings), verdicts.
"""

from __future__ import annotations

from collections.abc import Callable

from agents.prompts import Prompts
from agents.verifiers.certainty import Certainty, Entropy
from agents.verifiers.cross import Cross
from agents.verifiers.judge import Judge
from agents.verifiers.perplexity import Perplexity
from agents.verifiers.rubric import Rubric
from agents.verifiers.steps import Steps
from agents.verifiers.teacher import Teacher
from agents.verifiers.tools import Tools
from agents.verifiers.unprompted import Unprompted, Written
from pipeline.config import VerifierConfig
from pipeline.ports import Engine, Meter, Verifier

# each is made from an engine under the proxy's weights; the number is the longest row it can read
VERIFIERS: dict[str, Callable[[Engine, Prompts, VerifierConfig, int], Verifier]] = {
    "perplexity": Perplexity
}

METERS: dict[str, Callable[[Tools], Meter]] = {
    "certainty": Certainty,
    "entropy": Entropy,
    "written": Written,
    "unprompted": Unprompted,
    "steps": Steps,
    "cross": Cross,
    "judge": Judge,
    "rubric": Rubric,
    "teacher": Teacher,
}
