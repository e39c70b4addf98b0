"""What the roles read: prompts as token ids, in one of three styles.

A prompt is encoded as one text. Reference and reasoning are tokenised apart from what surrounds
them and the ids concatenated, so the boundary at which a reference is scored is the same in every
rollout. Text from tasks cannot make control tokens: a control string inside it is spelled out in
plain ones.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Literal

from transformers import PreTrainedTokenizerBase

from pipeline.config import TagsConfig
from pipeline.text.transcript import Blocks
from pipeline.types import Rollout

Style = Literal["plain", "instructed", "chat"]

# The blocks are asked for as they are scored: no line break between a tag and its text.
ATTEMPT = {
    "plain": "Question: {question}\n",
    "instructed": (
        "Question: {question}\n\n"
        "Answer the question and return in the following format:\n\n"
        "<{reasoning}>...</{reasoning}>\n\n<{answer}>...</{answer}>\n"
    ),
}
PROPOSAL = {
    "plain": "Propose a task like: {question}\n",
    "instructed": (
        "Here is a task:\n\n{question}\n\nWrite one new task of the same kind "
        "that a careful reader can answer, and state its answer, in the following format:\n\n"
        "<{task}>...</{task}>\n\n<{answer}>...</{answer}>\n"
    ),
}


PLEA = {"plain": "{question}", "instructed": "{question}"}


@dataclass(frozen=True)
class Prompts:
    """Renders and encodes for one tokenizer.

    style  "plain" for the tiny base, "instructed" for a base model, "chat" where the tokenizer
           brings a chat template, which then wraps the instructed text as a user's turn
    """

    tokenizer: PreTrainedTokenizerBase
    tags: TagsConfig
    style: Style

    @property
    def attempt_blocks(self) -> Blocks:
        return Blocks(self.tags.reasoning, self.tags.answer)

    @property
    def proposal_blocks(self) -> Blocks:
        return Blocks(self.tags.task, self.tags.answer)

    def attempt(self, question: str) -> tuple[int, ...]:
        """What the solver reads before it attempts a question; the verifier reads the same."""
        return self._render(ATTEMPT, question)

    def proposal(self, parent: str) -> tuple[int, ...]:
        """What the generator reads before it proposes a task like `parent`."""
        return self._render(PROPOSAL, parent)

    def plea(self, text: str) -> tuple[int, ...]:
        """A whole text that asks for something, as a user's turn where there are turns; control
        strings in it are spelled out."""
        return self._render(PLEA, text)

    def reasoning(self, text: str) -> tuple[int, ...]:
        """A reasoning block as it stands before an answer; () for no reasoning (NOVER: the block
        is then left out)."""
        if not text:
            return ()
        return self._open(self.tags.reasoning) + self.plain(text) + self._close(self.tags.reasoning)

    def attempted(self, reasoning: str, answer: str) -> tuple[int, ...]:
        """A whole completion that says these, both blocks written even where they are empty."""
        opened = self._open(self.tags.reasoning) + self.plain(reasoning)
        return opened + self._close(self.tags.reasoning) + self.answer(answer)

    def answer(self, text: str) -> tuple[int, ...]:
        """An answer block, tags included: they are part of what NOVER scores."""
        return self._open(self.tags.answer) + self.plain(text) + self._close(self.tags.answer)

    def closed_reference(self, text: str) -> tuple[int, ...]:
        """A reference and the closing answer tag: what follows an opened answer block."""
        return self.plain(text) + self._close(self.tags.answer)

    @cached_property
    def open_answer(self) -> tuple[int, ...]:
        return self._open(self.tags.answer)

    def behind_answer_tag(self, rollout: Rollout) -> int | None:
        """Index behind the token that completes the completion's opening answer tag, or None.

        A tokenizer may merge the tag's last character with what follows it (`>` and a line break):
        such a token is behind the splice as a whole. So the tag is looked for as the ids it has
        on its own and, where these do not stand there, in what the tokens decode to.
        """
        start = rollout.written.index(True) if True in rollout.written else len(rollout.tokens)
        tag, size = f"<{self.tags.answer}>", len(self.open_answer)
        for end in range(start + size, len(rollout.tokens) + 1):
            if rollout.tokens[end - size : end] == self.open_answer:
                return end
        if tag not in self.decode(rollout.tokens[start:]):
            return None
        # once the tag is whole, more tokens do not undo it: bisect
        ends = range(start + 1, len(rollout.tokens) + 1)
        return ends[
            bisect_left(ends, True, key=lambda end: tag in self.decode(rollout.tokens[start:end]))
        ]

    def plain(self, text: str) -> tuple[int, ...]:
        """Text as ordinary tokens, whatever control strings stand in it."""
        return self._spelled(text, 0, len(text))

    def decode(self, ids: tuple[int, ...]) -> str:
        """Ids back to text, control tokens spelled out, nothing tidied."""
        text = self.tokenizer.decode(
            list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False
        )
        return text if isinstance(text, str) else "".join(text)

    @cached_property
    def _controls(self) -> re.Pattern[str]:
        # an added run of blanks, as GPT-NeoX and Gemma have them, controls nothing
        known = [name for name in self.tokenizer.get_added_vocab() if name.strip()]
        known.sort(key=len, reverse=True)
        return re.compile("|".join(map(re.escape, known))) if known else re.compile(r"(?!)")

    def _render(self, templates: dict[str, str], question: str) -> tuple[int, ...]:
        form = templates["plain" if self.style == "plain" else "instructed"]
        names = {
            "reasoning": self.tags.reasoning,
            "answer": self.tags.answer,
            "task": self.tags.task,
        }
        before, after = form.split("{question}")
        before, after = before.format(**names), after.format(**names)
        if self.style == "chat":
            mark = "\x00question\x00"
            turn = [{"role": "user", "content": before + mark + after}]
            text = self.tokenizer.apply_chat_template(
                turn, tokenize=False, add_generation_prompt=True
            )
            before, after = str(text).split(mark)
            # a template for reasoning models may open the block, which the policy has to write
            after = re.sub(rf"<{self.tags.reasoning}>\s*\Z", "", after)
        # one text: encoded apart, a space before the question or a sign at its end would make other
        # tokens than they make in every text that the base has read
        start, stop = len(before), len(before) + len(question)
        begin = () if self.style == "chat" else self._begin  # chat templates bring their own
        return begin + self._spelled(before + question + after, start, stop)

    def _spelled(self, text: str, start: int, stop: int) -> tuple[int, ...]:
        """The whole text's ids, control strings that reach into [start, stop) broken up."""
        cuts = {0, len(text)}
        found = self._controls.search(text)
        while found is not None and found.start() < stop:
            if found.end() > start:
                cuts |= {found.start(), found.start() + 1, found.end()}
            # what begins inside a broken one may be another
            again = found.end() if found.end() <= start else found.start() + 1
            found = self._controls.search(text, again)
        ids: list[int] = []
        for left, right in pairwise(sorted(cuts)):
            ids += self.tokenizer.encode(text[left:right], add_special_tokens=False)
        return tuple(ids)

    @cached_property
    def _begin(self) -> tuple[int, ...]:
        """The begin token, where the tokenizer puts one before a text by itself; else ()."""
        bos = self.tokenizer.bos_token_id
        by_itself = isinstance(bos, int) and self.tokenizer.encode("a")[:1] == [bos]
        return (bos,) if by_itself else ()

    @lru_cache(maxsize=64)  # noqa: B019 - one Prompts lives as long as its run
    def _own(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text, add_special_tokens=False)) if text else ()

    def _open(self, tag: str) -> tuple[int, ...]:
        return self._own(f"<{tag}>")

    def _close(self, tag: str) -> tuple[int, ...]:
        return self._own(f"</{tag}>")
