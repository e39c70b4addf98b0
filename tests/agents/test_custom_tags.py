"""One task from its prompt to the request that scores it, under tags of one's own."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from agents.generators.evolve import Evolve
from agents.prompts import Prompts, Style
from agents.solver import SamplingSolver
from agents.verifiers import METERS
from agents.verifiers.perplexity import Perplexity
from pipeline.batch import Splice
from pipeline.config import GeneratorConfig, SolverConfig, TagsConfig, VerifierConfig
from pipeline.engine.scripted import ScriptedEngine, Tokens
from pipeline.ports import SampleRequest, ScoreRequest, Scores
from pipeline.types import Task
from tests.agents.attempts import tools
from tests.tiny import tiny_tokenizer

OWN = TagsConfig(reasoning="reasoning", answer="final", task="exercise")
TASK = Task("t", "How much is 2 and 2?", "four", "human")
DEFAULTS = ("<think>", "</think>", "<answer>", "</answer>", "<task>", "</task>")


@dataclass
class Recorder:
    """A scripted engine that writes in the tags of its own and keeps every text it was shown."""

    prompts: Prompts
    texts: list[str] = field(default_factory=list)
    scored: list[ScoreRequest] = field(default_factory=list)
    version: str = "solver@0"

    def __post_init__(self) -> None:
        self.engine = ScriptedEngine(self._write, lambda _, target: (-0.5,) * len(target))

    def sample(self, requests: list[SampleRequest], *, max_tokens: int, temperature: float):
        self.texts += [self.prompts.decode(request.prompt) for request in requests]
        return self.engine.sample(requests, max_tokens=max_tokens, temperature=temperature)

    def score(self, requests: list[ScoreRequest]) -> list[Scores]:
        self.scored += requests
        for one in requests:
            rows = [one.prompt, *one.contexts, *(t for targets in one.targets for t in targets)]
            self.texts += map(self.prompts.decode, rows)
        return self.engine.score(requests)

    def _write(self, prompt: Tokens, seed: int) -> Tokens:
        asked = self.prompts.decode(prompt)
        said = "<reasoning>2 and 2</reasoning>\n<final>4</final>"
        if "new task" in asked or "Propose" in asked:
            said = "<exercise>How much is 3 and 3?</exercise>\n<final>6</final>"
        return (*self.prompts.tokenizer.encode(said, add_special_tokens=False), 1)


@pytest.mark.parametrize("style", ["plain", "instructed"])
def test_no_default_tag_stands_anywhere_on_the_path_of_a_task(style: Style) -> None:
    prompts = Prompts(tiny_tokenizer(), OWN, style)
    engine = Recorder(prompts)
    (group,) = SamplingSolver(engine, prompts, SolverConfig(), 512).attempt([TASK], [[1]], ["g"])
    (proposed,) = Evolve(engine, prompts, GeneratorConfig(), 512).propose([TASK], [[1]], ["p"])
    evidence = Perplexity(engine, prompts, VerifierConfig(), 512).measure([group])[0][0]

    assert [(t.form, t.first, t.final) for t in group.transcripts] == [("ok", "2 and 2", "4")]
    assert [(t.form, t.first, t.final) for t in proposed.transcripts] == [
        ("ok", "How much is 3 and 3?", "6")
    ]
    assert evidence.status == "measured"
    told = "\n".join(engine.texts)
    assert [tag for tag in DEFAULTS if tag in told] == []
    assert "<reasoning>2 and 2</reasoning>\n<final>" in told
    assert "four</final>" in told


@pytest.mark.parametrize("style", ["plain", "instructed"])
@pytest.mark.parametrize("name", ["steps", "written", "unprompted", "cross", "judge", "rubric"])
def test_no_default_tag_stands_in_what_a_meter_asks(style: Style, name: str) -> None:
    prompts = Prompts(tiny_tokenizer(), OWN, style)
    (group,) = SamplingSolver(Recorder(prompts), prompts, SolverConfig(), 512).attempt(
        [TASK], [[1, 2]], ["g"]
    )
    engine = Recorder(prompts)
    config = VerifierConfig(rubric=("It is short.",))
    kit = tools(engine, prompts=prompts, config=config, context=512)
    (row,) = METERS[name](kit).read([group])

    assert [one.status for one in row] == ["measured", "measured"]
    assert [tag for tag in DEFAULTS if tag in "\n".join(engine.texts)] == []
    if name == "steps":  # the reasoning is found between the own tags: one step, tags apart
        opened = len(prompts.tokenizer.encode("<reasoning>", add_special_tokens=False))
        assert row[0].at == (opened + len(prompts.plain("2 and 2")),)
    if name == "cross":
        assert "</reasoning>\n<final>" in "\n".join(engine.texts)


def test_the_reference_is_spliced_in_behind_the_own_answer_tag() -> None:
    prompts = Prompts(tiny_tokenizer(), OWN, "instructed")
    solver = SamplingSolver(Recorder(prompts), prompts, SolverConfig(), 512)
    (group,) = solver.attempt([TASK], [[1]], ["g"])
    splice = Splice(
        prompts.behind_answer_tag, lambda task: prompts.closed_reference(task.reference)
    )
    (rollout,) = group.rollouts
    end = splice.behind(rollout)
    assert end is not None
    text = prompts.decode((*rollout.tokens[:end], *splice.reference_ids(TASK)))
    assert text.endswith("</reasoning>\n<final>four</final>")
    assert [tag for tag in DEFAULTS if tag in text] == []
