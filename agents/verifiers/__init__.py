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
start       how much likelier the policy has made the completion than the start did
rule        whether the answer says what the reference says, by text and by mathematics
vote        what the answer's siblings say to it
shape       how long the completion is, and how much of it repeats

To add one, write its file and list it in METERS. What they share: tools (what each is made from),
readings, passes (one look for two meters), reasonings (answers scored under reasonings), verdicts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper

from agents.prompts import Prompts
from agents.verifiers.certainty import Certainty, Entropy
from agents.verifiers.cross import Cross
from agents.verifiers.judge import Judge
from agents.verifiers.perplexity import Perplexity
from agents.verifiers.rubric import Rubric
from agents.verifiers.rule import Rule
from agents.verifiers.shape import Shape
from agents.verifiers.start import Start
from agents.verifiers.steps import Steps
from agents.verifiers.teacher import Teacher
from agents.verifiers.tools import Tools
from agents.verifiers.unprompted import Unprompted, Written
from agents.verifiers.vote import Vote
from pipeline.config import VerifierConfig
from pipeline.ports import Engine, Meter, Verifier

# each is made from an engine under the proxy's weights; the number is the longest row it can read
VERIFIERS: dict[str, Callable[[Engine, Prompts, VerifierConfig, int], Verifier]] = {
    "perplexity": Perplexity
}


def _made(kind: type[Meter], make: Callable[[Tools], Meter]) -> Callable[[Tools], Meter]:
    """A meter that takes other arguments than the tools, under its own name and docstring."""
    return update_wrapper(make, kind, updated=())


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
    "start": Start,
    "rule": _made(Rule, lambda tools: Rule()),
    "vote": _made(Vote, lambda tools: Vote()),
    "shape": _made(Shape, lambda tools: Shape(tools.prompts)),
}
