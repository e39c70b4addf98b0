"""Prompts: what the roles read, as ids whose boundaries never move."""

from __future__ import annotations

import random
from typing import Literal

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from agents.prompts import ATTEMPT, PROPOSAL, Prompts
from flows.assemble import TINY
from pipeline.batch import Splice, plan
from pipeline.config import TagsConfig
from pipeline.types import Rollout
from pipeline.worlds import rule, sloppy
from tests.pipeline.credits import credited
from tests.tiny import PAD, merging_tokenizer, tiny_tokenizer

Style = Literal["plain", "instructed"]


def prompts(style: Style = "plain", tags: TagsConfig | None = None) -> Prompts:
    return Prompts(tiny_tokenizer(), tags or TagsConfig(), style)


@pytest.mark.parametrize("style", ["plain", "instructed"])
def test_a_prompt_holds_its_question_verbatim(style: Style) -> None:
    made = prompts(style)
    for question in ("What is 3 + 4?", "  spaced  ", "日本語 {braces} %s", "line\nline"):
        assert question in made.decode(made.attempt(question))
        assert question in made.decode(made.proposal(question))


def test_a_question_reads_in_its_prompt_as_if_all_of_it_were_encoded_at_once() -> None:
    """A space before a word is the word's own: "Cy" behind it must be the "Cy" of every text."""
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    made = Prompts(tokenizer, TagsConfig(), "plain")
    rng = random.Random(0)
    for problem in (rule.sample(rng, [2], family) for family in rule.FAMILIES for _ in range(5)):
        whole = sloppy.ATTEMPT_PROMPT.format(question=problem.question)
        assert list(made.attempt(problem.question)) == tokenizer(whole)["input_ids"]
        whole = sloppy.PROPOSAL_PROMPT.format(question=problem.question)
        assert list(made.proposal(problem.question)) == tokenizer(whole)["input_ids"]


@pytest.mark.parametrize("style", ["plain", "instructed"])
def test_a_question_joins_what_follows_it_as_in_one_text(style: Style) -> None:
    made = merging(style)
    made.tokenizer.add_tokens(["    "])  # a token of blanks controls nothing
    for form, ids in ((ATTEMPT, made.attempt), (PROPOSAL, made.proposal)):
        for question in ("How many has she?", "What is it?", "x\n", "\n  x    (1).", "3 + 4 ="):
            form_of_style = form[style].replace("{question}", "\x00")
            tags = {"reasoning": "think", "answer": "answer", "task": "task"}
            whole = form_of_style.format(**tags).replace("\x00", question)
            assert list(ids(question)) == made.tokenizer.encode(whole, add_special_tokens=False)


@pytest.mark.parametrize("style", ["plain", "instructed", "chat"])
def test_a_control_string_in_a_question_makes_no_control_token_of_the_prompt(
    style: Literal["plain", "instructed", "chat"],
) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<<think>", "> <"])  # one begins in another, one may begin outside
    tokenizer.chat_template = "<|end|>{% for m in messages %}{{ m['content'] }}{% endfor %}<think>x"
    made = Prompts(tokenizer, TagsConfig(), style)
    controls = set(tokenizer.get_added_vocab().values())
    own = [token for token in made.attempt("Why?") if token in controls]
    for question in (
        "<think>",
        "a<<think>b",
        "<|end|><|end|>",
        "</answer> <",
        "x <task",
        "<<think",
    ):
        ids = made.attempt(question)
        assert [token for token in ids if token in controls] == own
        assert question in made.decode(ids)


def test_the_instructed_prompt_shows_the_tags_of_the_run() -> None:
    made = prompts("instructed", TagsConfig(reasoning="reasoning", answer="final"))
    text = made.decode(made.attempt("Why?"))
    assert "<reasoning>...</reasoning>" in text
    assert "<final>...</final>" in text


def test_the_instructed_prompt_asks_for_the_blocks_that_are_scored() -> None:
    made = prompts("instructed")
    asked = made.decode(made.attempt("Why?"))
    for scored in (made.reasoning("..."), made.answer("...")):
        assert made.decode(scored) in asked
    assert "<task>...</task>" in made.decode(made.proposal("Why?"))


def test_a_control_string_in_a_question_stays_plain_text() -> None:
    made = prompts()
    controls = set(made.tokenizer.get_added_vocab().values())
    ids = made.plain("a <think> b </answer> c <|end|>")
    assert not controls & set(ids)
    assert made.decode(ids) == "a <think> b </answer> c <|end|>"


def test_an_answer_block_is_its_tag_its_text_and_its_tag() -> None:
    made = prompts()
    assert made.answer("42") == made.open_answer + made.closed_reference("42")
    assert made.decode(made.answer("42")) == "<answer>42</answer>"


def test_no_reasoning_leaves_the_block_out() -> None:
    assert prompts().reasoning("") == ()
    assert prompts().decode(prompts().reasoning("so")) == "<think>so</think>"


@pytest.mark.parametrize("opened", ["<think>", "<think>\n"])
def test_a_reasoning_block_that_a_template_opens_is_left_to_the_policy(opened: str) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{{ m['content'] }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]\n" + opened + "{% endif %}"
    )
    made = Prompts(tokenizer, TagsConfig(), "chat")
    for ids in (made.attempt("Why <think>"), made.proposal("Why <think>")):
        assert made.decode(ids).endswith("[assistant]\n")
        assert "Why <think>" in made.decode(ids)
    other = Prompts(tokenizer, TagsConfig(reasoning="reason"), "chat")
    assert opened in other.decode(other.attempt("Why?"))  # no tag of this run


def beginning(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The tokenizer, with its pad token put before every text, as Llama 3 does with its own."""
    tokenizer.bos_token = PAD
    pair = [(PAD, tokenizer.bos_token_id)]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(f"{PAD} $A", None, pair)
    return tokenizer


@pytest.mark.parametrize("style", ["plain", "instructed"])
def test_a_prompt_begins_as_the_tokenizer_begins_a_text(style: Style) -> None:
    tokenizer = beginning(tiny_tokenizer())
    bos, made = tokenizer.bos_token_id, Prompts(tokenizer, TagsConfig(), style)
    bare = prompts(style)
    assert made.attempt("Why?") == (bos, *bare.attempt("Why?"))
    assert made.proposal("Why?") == (bos, *bare.proposal("Why?"))
    assert bos not in made.answer("42") + made.reasoning("so") + made.plain("x")


def test_a_begin_token_that_is_known_but_not_put_there_is_left_out() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.bos_token = PAD
    assert Prompts(tokenizer, TagsConfig(), "plain").attempt("Why?") == prompts().attempt("Why?")


def test_a_chat_template_brings_its_own_begin_token() -> None:
    tokenizer = beginning(tiny_tokenizer())
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    ids = Prompts(tokenizer, TagsConfig(), "chat").attempt("Why?")
    assert ids.count(tokenizer.bos_token_id) == 1
    assert ids[0] == tokenizer.bos_token_id


def test_the_chat_style_wraps_the_question_as_a_users_turn() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[assistant]"
    )
    made = Prompts(tokenizer, TagsConfig(), "chat")
    text = made.decode(made.attempt("Why?"))
    assert text.startswith("[user]Question: Why?")
    assert text.endswith("[assistant]")


def merging(style: Style = "instructed") -> Prompts:
    return Prompts(merging_tokenizer(), TagsConfig(), style)


def written(made: Prompts, text: str, question: str = "Why?") -> Rollout:
    """A rollout whose completion is `text` in the tokenizer's own ids."""
    prompt = made.attempt(question)
    ids = tuple(made.tokenizer.encode(text, add_special_tokens=False))
    count = len(prompt) + len(ids)
    marks = (False,) * len(prompt) + (True,) * len(ids)
    return Rollout("r", prompt + ids, marks, (-1.0,) * count, text, "end", 1, "solver@0")


@pytest.mark.parametrize(
    ("text", "context"),
    [
        ("<think>so</think>\n\n<answer>\n4\n</answer>", "<think>so</think>\n\n<answer>\n"),
        ("<think>so</think><answer>4</answer>", "<think>so</think><answer>"),
        ("<think>é ü</think>\n<answer>\n\né</answer>", "<think>é ü</think>\n<answer>\n\n"),
    ],
)
def test_the_answer_opens_behind_the_token_that_completes_its_tag(text: str, context: str) -> None:
    made = merging()
    rollout = written(made, text)
    assert made.open_answer != rollout.tokens[-len(made.open_answer) :]
    behind = made.behind_answer_tag(rollout)
    assert behind is not None
    read = len(made.attempt("Why?"))
    assert made.decode(rollout.tokens[read:behind]) == context
    assert "<answer>" not in made.decode(rollout.tokens[read : behind - 1])


def test_an_answer_that_was_never_opened_has_no_place_to_splice() -> None:
    made = merging()  # the prompt's own tag is not the policy's
    assert made.behind_answer_tag(written(made, "<think>so</think>\n<answer\n4")) is None
    assert made.behind_answer_tag(written(made, "")) is None
    assert made.behind_answer_tag(Rollout("r", (), (), (), "", "end", 1, "solver@0")) is None


def test_the_answer_term_reaches_attempts_whose_tag_was_merged() -> None:
    made = merging()
    rollout = written(made, "<think>so</think>\n<answer>\n4\n</answer>")
    splice = Splice(made.behind_answer_tag, lambda task: made.closed_reference(task.reference))
    share = plan(
        [credited([rollout], [1.0], [0.5], reference="7")], splice, "solver@0", every=False
    )
    assert (share.unspliced, share.rows[0].answer) == (0, made.closed_reference("7"))
    seen = share.rows[0].prompt + share.rows[0].tokens[: share.rows[0].fork]
    assert made.decode(seen).endswith("<answer>\n")


def test_a_whole_completion_is_the_tokens_that_its_text_would_be_sampled_in() -> None:
    tokenizer = tiny_tokenizer()
    prompts = Prompts(tokenizer, TagsConfig(), "plain")
    for reasoning, answer in (("so", "4"), ("", ""), (".", " ")):
        text = f"<think>{reasoning}</think><answer>{answer}</answer>"
        own = tokenizer.encode(text, add_special_tokens=False)
        assert prompts.attempted(reasoning, answer) == tuple(own)
    spelled = prompts.attempted("</think>", "<answer>")  # a tag in a text is no tag's token
    close = prompts.attempted("", "")[1]
    assert spelled.count(close) == 1
