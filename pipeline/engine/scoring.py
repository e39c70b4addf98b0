"""What is said of targets, token by token: what several rows begin with is read once.

Three levels: a prompt without its last token; a context on top of it; a target on top of that. The
last token of what precedes a target is read with the target, so that a target's block predicts
every one of its tokens. A prompt with one context, or a context with one target, is not split off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from pipeline.engine.looks import Look, confidences, logprobs
from pipeline.engine.rows import Reader, Rows
from pipeline.ports import Confidence, Confidences, ScoreRequest, Scores

Tokens = tuple[int, ...]
Slot = tuple[int, int, int]  # request, context, target
Found = dict[Slot, tuple[tuple[float, ...], ...]]  # per kind of number, per token


@dataclass(frozen=True, slots=True)
class Scoring:
    """Bounds of a forward, and the id that fills the gaps.

    tokens  most padded tokens read at once
    cells   most key-value columns (rows times columns) held by one level
    logits  most logits (positions times vocabulary) made at once
    """

    tokens: int
    cells: int
    logits: int
    pad_id: int


@dataclass(slots=True)
class _Target:
    """One target to score, and where its numbers go."""

    slot: Slot
    tokens: Tokens


@dataclass(slots=True)
class _Node:
    """A block of tokens on top of row `parent`, and the targets that end it or follow it."""

    parent: int
    block: Tokens
    targets: list[_Target]


def score(
    reader: Reader, requests: Sequence[ScoreRequest], how: Scoring, temperature: float = 1.0
) -> list[Scores]:
    """Log-probabilities, at that temperature and in float32, of every target token, in order.

    Raises ValueError where a target has nothing before it, is empty, or does not fit the model.
    """
    found = _look(reader, requests, how, partial(logprobs, temperature=temperature))
    return [
        tuple(
            tuple(found[r, c, t][0] for t in range(len(targets)))
            for c, targets in enumerate(request.targets)
        )
        for r, request in enumerate(requests)
    ]


def confide(
    reader: Reader, requests: Sequence[ScoreRequest], how: Scoring, words: int
) -> list[Confidences]:
    """How sure the model is along every target, in order; see `looks.confidences` for `words`.

    Raises as `score`, whose log-probabilities these are.
    """
    found = _look(reader, requests, how, confidences(words))
    return [
        tuple(
            tuple(Confidence(*found[r, c, t]) for t in range(len(targets)))
            for c, targets in enumerate(request.targets)
        )
        for r, request in enumerate(requests)
    ]


def _look(reader: Reader, requests: Sequence[ScoreRequest], how: Scoring, look: Look) -> Found:
    alone, shared = _by_prompt(reader, requests)
    root = reader.empty(1, 0)
    reading = _Reading(reader, how, look, {})
    reading.contexts(root, [_Node(0, node.block, node.targets) for node in alone])
    prompts = [_Node(0, prompt, []) for prompt in shared]
    for batch in _batches(prompts, lambda node: len(node.block), how, 0):
        rows = reading.read(root, batch)
        children = [
            _Node(row, node.block, node.targets)
            for row, prompt in enumerate(batch)
            for node in shared[prompt.block]
        ]
        reading.contexts(rows, children)
    return reading.found


def _by_prompt(
    reader: Reader, requests: Sequence[ScoreRequest]
) -> tuple[list[_Node], dict[Tokens, list[_Node]]]:
    """Contexts of prompts that stand alone, prompt included; contexts by shared prompt."""
    by_prompt: dict[Tokens, list[_Node]] = {}
    for r, request in enumerate(requests):
        _check(reader, request, r)
        for c, (context, targets) in enumerate(zip(request.contexts, request.targets, strict=True)):
            node = _Node(
                0,
                request.prompt[-1:] + context,
                [_Target((r, c, t), target) for t, target in enumerate(targets)],
            )
            if targets:
                by_prompt.setdefault(request.prompt[:-1], []).append(node)
    alone = []
    for prompt in [p for p, nodes in by_prompt.items() if len(nodes) == 1 or not p]:
        for node in by_prompt.pop(prompt):
            alone.append(_Node(0, prompt + node.block, node.targets))
    return alone, by_prompt


def _check(reader: Reader, request: ScoreRequest, place: int) -> None:
    if len(request.contexts) != len(request.targets):
        raise ValueError(
            f"request {place}: {len(request.contexts)} contexts, {len(request.targets)} targets; "
            "give each context its own list of targets"
        )
    for context, targets in zip(request.contexts, request.targets, strict=True):
        before = len(request.prompt) + len(context)
        for target in targets:
            if not target or not before:
                raise ValueError(f"request {place}: a target or all that precedes it is empty")
            if before + len(target) > reader.limit:
                raise ValueError(
                    f"request {place}: prompt, context and target have {before + len(target)} "
                    f"tokens, the model reads {reader.limit}; shorten one of them"
                )


@dataclass(frozen=True, slots=True)
class _Reading:
    """Reads nodes on top of rows and files what it sees of the targets under their slots."""

    reader: Reader
    how: Scoring
    look: Look
    found: Found

    def contexts(self, rows: Rows, nodes: list[_Node]) -> None:
        """Score the targets of contexts that stand on `rows`."""
        single = [node for node in nodes if len(node.targets) == 1]
        several = [node for node in nodes if len(node.targets) > 1]
        self.targets(
            rows, [_Node(n.parent, n.block + n.targets[0].tokens, n.targets) for n in single]
        )
        for batch in _batches(several, lambda node: len(node.block) - 1, self.how, rows.used):
            heads = [_Node(node.parent, node.block[:-1], []) for node in batch]
            leaves = [
                _Node(row, node.block[-1:] + target.tokens, [target])
                for row, node in enumerate(batch)
                for target in node.targets
            ]
            self.targets(self.read(rows, heads), leaves)

    def targets(self, rows: Rows, nodes: list[_Node]) -> None:
        """Read blocks that end in their one target; file what is seen of each target."""
        vocab = self.reader.vocab
        for batch in _batches(nodes, lambda node: len(node.block) - 1, self.how, rows.used):
            for part in _by_logits(batch, self.how.logits // vocab):
                self._score(rows, part)

    def _score(self, rows: Rows, nodes: list[_Node]) -> None:
        blocks = [node.block[:-1] for node in nodes]
        ids, real = self._padded(blocks)
        following = torch.full_like(ids, -1)
        for row, node in enumerate(nodes):
            tokens = node.targets[0].tokens
            end = len(blocks[row])
            following[row, end - len(tokens) : end] = torch.tensor(tokens)
        read = self._on(rows, nodes, ids.shape[1])
        device = self.reader.model.device
        seen = read.look(ids.to(device), real.to(device), following.to(device), self.look)
        kinds = seen.tolist()
        for row, node in enumerate(nodes):
            target, end = node.targets[0], len(blocks[row])
            start = end - len(target.tokens)
            self.found[target.slot] = tuple(tuple(kind[row][start:end]) for kind in kinds)

    def read(self, rows: Rows, nodes: list[_Node]) -> Rows:
        """New rows, one per node: its parent's row and then its block."""
        ids, real = self._padded([node.block for node in nodes])
        read = self._on(rows, nodes, ids.shape[1])
        device = self.reader.model.device
        read.read(ids.to(device), real.to(device))
        return read

    def _on(self, rows: Rows, nodes: list[_Node], width: int) -> Rows:
        parents = torch.tensor([node.parent for node in nodes], device=self.reader.model.device)
        return rows.repeat(parents, rows.used + width)

    def _padded(self, blocks: list[Tokens]) -> tuple[Tensor, Tensor]:
        """Blocks side by side, padded on the right: ids [B, W], real [B, W]."""
        width = max(map(len, blocks))
        pad = (self.how.pad_id,)
        ids = torch.tensor([b + pad * (width - len(b)) for b in blocks], dtype=torch.long)
        real = torch.arange(width) < torch.tensor([[len(b)] for b in blocks])
        return ids, real


def _batches(
    nodes: list[_Node], width: Callable[[_Node], int], how: Scoring, before: int
) -> Iterator[list[_Node]]:
    """Nodes of like width together, each batch within the bounds or a single node."""
    batch: list[_Node] = []
    for node in sorted(nodes, key=width):
        rows, columns = len(batch) + 1, width(node)
        full = rows * columns > how.tokens or rows * (before + columns) > how.cells
        if batch and full:
            yield batch
            batch = []
        batch.append(node)
    if batch:
        yield batch


def _by_logits(nodes: list[_Node], positions: int) -> Iterator[list[_Node]]:
    """Parts whose targets hold at most `positions` tokens, or a single node."""
    part: list[_Node] = []
    total = 0
    for node in nodes:
        length = len(node.targets[0].tokens)
        if part and total + length > positions:
            yield part
            part, total = [], 0
        part.append(node)
        total += length
    if part:
        yield part
