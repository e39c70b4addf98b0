"""The served engine over vLLM itself, against the local engine with the same weights in float32."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from flows.bases import TINY, Bases
from pipeline.config import ModelConfig
from pipeline.engine.local import LocalEngine
from pipeline.engine.served import PROGRAM, EngineFailed, ServedEngine, Serving
from pipeline.models.policy import load_policy, merged_state
from pipeline.ports import Sample, SampleRequest, ScoreRequest, Scores
from pipeline.seeds import seed_of
from tests.pipeline.test_served import left

PYTHON = os.environ.get("COCLIMB_VLLM_PYTHON", "")
pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("vllm"),
    pytest.mark.skipif(
        not PYTHON, reason="COCLIMB_VLLM_PYTHON names no interpreter of an environment with vLLM"
    ),
]
CLOSE = 1e-4  # nats per token, in float32
BLOCK = 128  # tokens that vLLM keeps keys and values of together, on a CPU


def serve(program: Path = PROGRAM, folder: Path = TINY) -> ServedEngine:
    serving = Serving(
        python=PYTHON,
        folder=folder,
        device="cpu",
        dtype=torch.float32,
        context=512,
        memory=0.2,
        start_seconds=600,
        answer_seconds=300,
        program=program,
    )
    return ServedEngine(serving, eos_ids=frozenset({757}), version="solver@0")


@pytest.fixture(scope="module")
def engine() -> Iterator[ServedEngine]:
    made = serve()
    yield made
    made.close()


@pytest.fixture
def served(engine: ServedEngine) -> ServedEngine:
    """The engine under the weights of the base."""
    engine.load(base(), "solver@0")
    return engine


@pytest.fixture
def local() -> LocalEngine:
    return Bases(ModelConfig(device="cpu")).engine("float32", "solver@0")


def base() -> dict[str, torch.Tensor]:
    model, _ = load_policy(str(TINY), dtype=torch.float32, device="cpu")
    return merged_state(model)


def moved(seed: int) -> dict[str, torch.Tensor]:
    """The base's weights, every one of them a little elsewhere."""
    chance = torch.Generator().manual_seed(seed)
    return {
        name: weight + 0.02 * torch.randn(weight.shape, generator=chance)
        for name, weight in base().items()
    }


def row(length: int, seed: int = 0) -> tuple[int, ...]:
    chance = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(10, 700, (length,), generator=chance).tolist())


def difference(found: Sequence[Scores], expected: Sequence[Scores]) -> float:
    """The largest of any token."""

    def flat(scores: Sequence[Scores]) -> torch.Tensor:
        return torch.tensor([n for r in scores for c in r for t in c for n in t])

    return float((flat(found) - flat(expected)).abs().max())


def apart(engine: LocalEngine, prompt: tuple[int, ...], samples: Sequence[Sample]) -> float:
    """How far log-probabilities of completions at temperature 1 are from the local engine's."""
    targets = tuple(sample.tokens for sample in samples)
    told = [((tuple(sample.logprobs for sample in samples)),)]
    return difference(told, engine.score([ScoreRequest(prompt, ((),), (targets,))]))


def test_completions_have_the_local_engines_log_probabilities(
    served: ServedEngine, local: LocalEngine
) -> None:
    made = served.sample([SampleRequest(row(40), tuple(range(16)))], max_tokens=64, temperature=1.0)
    assert {sample.stop for sample in made[0]} == {"end", "length"}
    for sample in made[0]:
        assert (sample.tokens[-1] == 757) == (sample.stop == "end")
        assert len(sample.tokens) == 64 or sample.stop == "end"
        assert 757 not in sample.tokens[:-1]
    assert apart(local, row(40), made[0]) < CLOSE


def test_log_probabilities_are_of_the_distribution_that_was_drawn_from(
    served: ServedEngine,
) -> None:
    prompt = row(40)
    made = served.sample([SampleRequest(prompt, (1, 2, 3))], max_tokens=32, temperature=0.5)
    model, _ = load_policy(str(TINY), dtype=torch.float32, device="cpu")
    for sample in made[0]:
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + sample.tokens])).logits[0]
        table = (logits / 0.5).log_softmax(-1)[len(prompt) - 1 : -1]
        expected = table.gather(1, torch.tensor(sample.tokens)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=CLOSE, rtol=0)


def test_without_chance_tokens_are_the_local_engines_and_log_probabilities_at_one(
    served: ServedEngine, local: LocalEngine
) -> None:
    ask = [SampleRequest(row(30, seed), (7,)) for seed in range(5)]
    made = served.sample(ask, max_tokens=32, temperature=0.0)
    expected = local.sample(ask, max_tokens=32, temperature=0.0)
    assert [one[0].tokens for one in made] == [one[0].tokens for one in expected]
    for request, one in zip(ask, made, strict=True):
        assert apart(local, request.prompt, one) < CLOSE


def test_a_completion_is_the_same_alone_and_among_others(served: ServedEngine) -> None:
    alone = served.sample([SampleRequest(row(40), (11,))], max_tokens=48, temperature=1.0)
    others = [SampleRequest(row(25, n), (seed_of(n, "a"), seed_of(n, "b"))) for n in range(4)]
    among = served.sample([*others, SampleRequest(row(40), (11,))], max_tokens=48, temperature=1.0)
    assert among[-1][0].tokens == alone[0][0].tokens
    assert len({sample.tokens for one in among for sample in one}) == 9  # each from its own seed


def test_more_prompts_than_are_read_at_once_change_no_completion(served: ServedEngine) -> None:
    many = [SampleRequest(row(300, n), (seed_of(n),)) for n in range(20)]
    among = served.sample(many, max_tokens=16, temperature=1.0)
    for n in (0, 7, 19):
        alone = served.sample([many[n]], max_tokens=16, temperature=1.0)
        assert alone[0][0].tokens == among[n][0].tokens


def test_scores_are_the_local_engines(served: ServedEngine, local: LocalEngine) -> None:
    whole = row(512)  # as long as the base reads
    requests = [
        ScoreRequest(row(20), ((), row(7, 1)), ((row(5, 2), row(1, 3)), (row(9, 4),))),
        ScoreRequest(whole[:300], ((),), ((whole[300:],),)),
        ScoreRequest(row(1), (row(3, 5),), ((row(2, 6),),)),
        *(ScoreRequest(row(350, n), ((),), ((row(30, n + 1),),)) for n in range(10, 20)),
    ]
    assert difference(served.score(requests), local.score(requests)) < CLOSE


def after_publishing(engine: ServedEngine, local: LocalEngine) -> float:
    """How far completions after a publish are from the new weights' own, of a prompt whose keys
    and values were kept from before.
    """
    prompt = row(2 * BLOCK + 9)
    ask = [SampleRequest(prompt, tuple(range(8)))]
    engine.sample(ask, max_tokens=24, temperature=1.0)
    engine.load(moved(1), "solver@1")
    local.load(moved(1), "solver@1")
    return apart(local, prompt, engine.sample(ask, max_tokens=24, temperature=1.0)[0])


def test_published_weights_answer_whatever_was_read_before(
    served: ServedEngine, local: LocalEngine
) -> None:
    request = [ScoreRequest(row(40), ((),), ((row(20, 1),),))]
    before = served.score(request)
    assert after_publishing(served, local) < CLOSE
    assert served.version == "solver@1"
    assert difference(served.score(request), local.score(request)) < CLOSE
    assert difference(served.score(request), before) > 0.1


def test_old_weights_would_answer_without_the_reset_of_the_prefix_cache(
    local: LocalEngine, tmp_path: Path
) -> None:
    text = PROGRAM.read_text()
    program = tmp_path / "without_reset.py"
    program.write_text(text.replace("if not self.llm.reset_prefix_cache():", "if False:"))
    assert program.read_text() != text
    engine = serve(program)
    try:
        assert after_publishing(engine, local) > 100 * CLOSE
    finally:
        engine.close()


def test_vllm_says_what_it_holds(served: ServedEngine) -> None:
    assert served.held is not None
    first = served.held.weights
    served.load(moved(2), "solver@2")
    assert served.held.weights != first
    served.load(base(), "solver@3")
    assert served.held.weights == first


def test_what_vllm_refuses_is_told_in_its_own_words(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "qwen3", "architectures": ["None"]}')
    engine = serve(folder=tmp_path)
    with pytest.raises(EngineFailed, match=r"code 1[\s\S]*Error:[\s\S]*architecture"):
        engine.sample([SampleRequest((5,), (1,))], max_tokens=1, temperature=1.0)
    engine.close()
    engine.log.unlink()


def test_closing_leaves_no_process_of_vllms() -> None:
    engine = serve()
    engine.sample([SampleRequest((5,), (1,))], max_tokens=1, temperature=1.0)
    assert len(left(engine.process)) >= 3  # the program, vLLM's core and its worker
    shared = set(os.listdir("/dev/shm"))
    engine.close()
    assert left(engine.process) == []
    assert not {name for name in set(os.listdir("/dev/shm")) - shared if name.startswith("psm_")}
