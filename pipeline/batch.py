"""Credited groups become rows, and rows become micro-batches without padding.

Siblings share their prompt: it stands once in a micro-batch, and every row attends to it. A row
holds what its rollout sampled and, where it has an answer weight, the answer branch: the
reference spliced in right behind the sampled opening tag of the answer (VeriFree's splice,
arXiv 2505.21493, on token ids). The branch sees the prompt and the sampled tokens up to the
splice, never the sampled answer, and its positions go on from the splice. So no token is read
twice and none is padding, while the gradient is that of separate, padded rows.

Axes: P prompts, B rows, T tokens of a micro-batch, L tokens of its longest row, Q tokens of its
longest prompt, S policy slots (written tokens that carry loss), A answer slots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from pipeline.types import Credited, Rollout, Task

Tokens = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Splice:
    """Where the answer branch begins and what it says.

    behind         index into a rollout's tokens behind those that open its answer, where the
                   branch starts; None where it opens none
    reference_ids  a task's reference and the closing tag, as token ids
    """

    behind: Callable[[Rollout], int | None]
    reference_ids: Callable[[Task], Tokens]


@dataclass(frozen=True, slots=True)
class Row:
    """One rollout as the forward pass reads it, with what its outputs are for.

    prompt     tokens before the last prompt token, shared by siblings; () for a prompt of one
    tokens     the last prompt token and the sampled ones, without those whose output serves nothing
    branch     the reference without its last token; () without an answer branch
    fork       how many of `tokens` the branch sees
    at         [S] indices into tokens whose output predicts a written token
    targets    [S] those written tokens; sampled [S] their log-probabilities when sampled
    answer     the reference tokens that the branch predicts
    weight     of the branch
    advantages [S] of the policy slots
    stale      written by other weights than those in training
    group      number of its group within the plan; reward what its rollout earned
    """

    prompt: Tokens
    tokens: Tokens
    branch: Tokens
    fork: int
    at: Tokens
    targets: Tokens
    sampled: tuple[float, ...]
    answer: Tokens
    weight: float
    advantages: tuple[float, ...]
    stale: bool
    group: int
    reward: float

    @property
    def size(self) -> int:
        """Tokens of the row itself, without the shared prompt."""
        return len(self.tokens) + len(self.branch)


@dataclass(frozen=True, slots=True)
class Plan:
    """A role's share of a step, with the denominators of the whole step.

    rows              those that need a forward pass
    written           written tokens of every kept rollout of the live groups, also of those whose
                      advantage is 0 and which are therefore not in `rows` (the token mean of DAPO,
                      arXiv 2503.14476, and of TRL)
    rollouts          how many those are
    reference_tokens  tokens of all answer branches
    unspliced         rollouts with an answer weight that hold no opening tag to branch behind
    """

    rows: tuple[Row, ...]
    written: int
    rollouts: int
    reference_tokens: int
    dead_groups: int
    unspliced: int


@dataclass(frozen=True, slots=True)
class Packing:
    """How packed tokens (all prompts, then all rows) lie in two padded tables, and who sees whom.

    family         [B]            the prompt each row follows
    prompt_index   [P, Q]         packed index of each cell; padded cells repeat index 0
    prompt_cells   [T of prompts] flat cell of each packed prompt token
    row_index      [B, L]         the same for rows, counted from the first row token
    row_cells      [T of rows]
    prompt_mask    [P, 1, Q, Q]   true where a query may look, before `additive`
    row_mask       [B, 1, L, Q+L] keys are the row's prompt and then the row itself
    """

    family: Tensor
    prompt_index: Tensor
    prompt_cells: Tensor
    row_index: Tensor
    row_cells: Tensor
    prompt_mask: Tensor
    row_mask: Tensor
    prompt_positions: Tensor  # [P, Q]
    row_positions: Tensor  # [B, L]

    def on(self, device: torch.device, dtype: torch.dtype) -> Packing:
        """The same on a device, masks as terms to add to the scores: 0, or dtype's lowest."""
        moved = {name: getattr(self, name).to(device) for name in self.__slots__}
        for name in ("prompt_mask", "row_mask"):
            mask = moved[name]
            terms = torch.zeros(mask.shape, dtype=dtype, device=device)
            moved[name] = terms.masked_fill_(~mask, torch.finfo(dtype).min)
        return Packing(**moved)


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Tokens that go through the model together.

    tokens, positions  [T]
    at, targets        [S + A] packed index that predicts, and the token predicted; policy first
    sampled, advantages, stale [S]; weights [A]
    owner              [S] the rollout that each slot belongs to, from 0
    rows               B, how many rollouts it holds
    groups, rewards    [B] of each rollout
    """

    tokens: Tensor
    positions: Tensor
    packing: Packing
    at: Tensor
    targets: Tensor
    sampled: Tensor
    advantages: Tensor
    stale: Tensor
    owner: Tensor
    weights: Tensor
    rows: int
    groups: Tensor
    rewards: Tensor

    @property
    def policy_slots(self) -> int:
        """S"""
        return len(self.sampled)

    def on(self, device: torch.device, dtype: torch.dtype) -> MicroBatch:
        """The same on a device; dtype is the attention's."""
        names = (
            "tokens",
            "positions",
            "at",
            "targets",
            "sampled",
            "advantages",
            "stale",
            "owner",
            "weights",
            "groups",
            "rewards",
        )
        moved = {name: getattr(self, name).to(device) for name in names}
        return replace(self, packing=self.packing.on(device, dtype), **moved)


def plan(credited: Sequence[Credited], splice: Splice | None, version: str, *, every: bool) -> Plan:
    """Rows and denominators of one role's groups, dead groups dropped and counted.

    splice   None leaves the answer branches out
    version  of the weights in training; rollouts of another version are stale
    every    whether rows without advantage are read too: a divergence is felt by all, and some
             surrogates learn from them

    A rollout that could not be judged trains nothing and counts in no denominator.
    """
    rows: list[Row] = []
    written = rollouts = unspliced = 0
    for number, item in enumerate(c for c in credited if not c.dead):
        group = item.judged.group
        reference = splice.reference_ids(group.task) if splice and any(item.answer_weights) else ()
        for seat, (index, weight) in enumerate(
            zip(item.judged.kept, item.answer_weights, strict=True)
        ):
            rollout = group.rollouts[index]
            advantages = _by_token(item, seat, sum(rollout.written))
            written += len(advantages)
            rollouts += bool(advantages)
            branches = bool(reference) and weight > 0
            behind = splice.behind(rollout) if splice and branches else None
            unspliced += branches and behind is None
            row = row_of(rollout, reference, behind, advantages if any(advantages) or every else ())
            if row is not None:
                stale, earned = rollout.version != version, item.judged.rewards[seat]
                rows.append(replace(row, weight=weight, stale=stale, group=number, reward=earned))
    return Plan(
        rows=tuple(rows),
        written=written,
        rollouts=rollouts,
        reference_tokens=sum(len(row.answer) for row in rows),
        dead_groups=sum(c.dead for c in credited),
        unspliced=unspliced,
    )


def _by_token(item: Credited, seat: int, written: int) -> tuple[float, ...]:
    """The advantage of each written token of a kept rollout."""
    return item.by_token[seat] if item.by_token else (item.advantages[seat],) * written


def row_of(
    rollout: Rollout, reference: Tokens, splice: int | None, advantages: tuple[float, ...]
) -> Row | None:
    """The rollout as a row, or None where neither its text nor a branch carries loss.

    splice      index behind the opening answer tag; None leaves the branch out
    advantages  of its written tokens; () leaves its text out of the loss
    """
    slots = [i for i, wrote in enumerate(rollout.written) if wrote]
    if not slots:
        return None
    first = slots[0]
    if first == 0:
        raise ValueError(
            f"rollout {rollout.id}: its first token is written, so no prompt predicts it"
        )
    answer = reference if splice else ()
    if advantages and len(advantages) != len(slots):
        raise ValueError(
            f"rollout {rollout.id}: {len(advantages)} advantages for {len(slots)} written tokens"
        )
    slots = slots if advantages else []
    if not slots and not answer:
        return None
    start = first - 1
    end = max(slots[-1] if slots else 0, splice or 0)
    return Row(
        prompt=rollout.tokens[:start],
        tokens=rollout.tokens[start:end],
        branch=answer[:-1],
        fork=(splice or start) - start,
        at=tuple(i - first for i in slots),
        targets=tuple(rollout.tokens[i] for i in slots),
        sampled=tuple(rollout.logprobs[i] for i in slots),
        answer=answer,
        weight=0.0,
        advantages=advantages,
        stale=False,
        group=0,
        reward=0.0,
    )


def micro_batches(
    rows: Sequence[Row], token_budget: int, *, whole_groups: bool = False
) -> Iterator[MicroBatch]:
    """Pack rows as `parted` parts them."""
    for part in parted(rows, token_budget, whole_groups=whole_groups):
        yield pack([rows[index] for index in part])


def parted(
    rows: Sequence[Row], token_budget: int, *, whole_groups: bool = False
) -> Iterator[list[int]]:
    """Indices of the rows that go through the model together, up to token_budget tokens.

    Siblings stand beside each other and like lengths together. A row that is longer than the
    budget with its prompt goes alone. A family that is longer is split, and its prompt read once
    in each part; under whole_groups no group is split, and a step needs the memory of its largest
    group, however small the budget.
    """
    families: dict[Tokens | int, list[int]] = {}
    for index in sorted(range(len(rows)), key=lambda index: rows[index].size):
        row = rows[index]
        families.setdefault(row.group if whole_groups else row.prompt, []).append(index)
    kin = families.values()
    units = list(kin) if whole_groups else [[index] for family in kin for index in family]
    part: list[int] = []
    prompts: set[Tokens] = set()
    total = 0
    for unit in units:
        prompt, size = rows[unit[0]].prompt, sum(rows[index].size for index in unit)
        cost = size + (0 if prompt in prompts else len(prompt))
        if part and total + cost > token_budget:
            yield part
            part, prompts, total = [], set(), 0
            cost = size + len(prompt)
        part += unit
        prompts.add(prompt)
        total += cost
    if part:
        yield part


def pack(rows: Sequence[Row]) -> MicroBatch:
    """One micro-batch of these rows, in this order; rows of a prompt share it."""
    prompts = list(dict.fromkeys(row.prompt for row in rows))
    place = {prompt: number for number, prompt in enumerate(prompts)}
    head = sum(map(len, prompts))
    starts = list(accumulate((row.size for row in rows), initial=head))[:-1]
    family = torch.tensor([place[row.prompt] for row in rows])
    tokens = [token for prompt in prompts for token in prompt]
    positions = [i for prompt in prompts for i in range(len(prompt))]
    for row in rows:
        tokens += row.tokens + row.branch
        begin, fork = len(row.prompt), len(row.prompt) + row.fork
        positions += range(begin, begin + len(row.tokens))
        positions += range(fork, fork + len(row.branch))
    slots = [len(row.at) for row in rows]
    at = [start + i for start, row in zip(starts, rows, strict=True) for i in row.at]
    at += [start + i for start, row in zip(starts, rows, strict=True) for i in _answer_at(row)]
    targets = [t for row in rows for t in row.targets] + [t for row in rows for t in row.answer]
    return MicroBatch(
        tokens=torch.tensor(tokens),
        positions=torch.tensor(positions),
        packing=_packing(prompts, rows, family),
        at=torch.tensor(at),
        targets=torch.tensor(targets),
        sampled=torch.tensor([x for row in rows for x in row.sampled], dtype=torch.float32),
        advantages=torch.tensor([x for row in rows for x in row.advantages], dtype=torch.float32),
        stale=_spread([row.stale for row in rows], slots).bool(),
        owner=_spread(range(len(rows)), slots).long(),
        weights=_spread([row.weight for row in rows], [len(row.answer) for row in rows]),
        rows=len(rows),
        groups=torch.tensor([row.group for row in rows]),
        rewards=torch.tensor([row.reward for row in rows], dtype=torch.float32),
    )


def _answer_at(row: Row) -> list[int]:
    """Indices into the row whose outputs predict the reference: the splice, then the branch."""
    if not row.answer:
        return []
    return [row.fork - 1, *range(len(row.tokens), row.size)]


def _spread(values: Sequence[float], counts: Sequence[int]) -> Tensor:
    """Each value as often as its count says, float32."""
    return torch.tensor(values, dtype=torch.float32).repeat_interleave(torch.tensor(counts))


def _packing(prompts: Sequence[Tokens], rows: Sequence[Row], family: Tensor) -> Packing:
    prompt_lengths = torch.tensor([len(prompt) for prompt in prompts])
    lengths = torch.tensor([row.size for row in rows])
    own = torch.tensor([len(row.tokens) for row in rows])[:, None]
    fork = torch.tensor([row.fork for row in rows])[:, None]
    prompt_index, prompt_cells = _table(prompt_lengths)
    row_index, row_cells = _table(lengths)
    column = torch.arange(row_index.shape[1])[None]
    in_branch = column >= own  # [B, L]
    hidden = (column >= fork) & ~in_branch  # sampled tokens that the branch must not see
    causal = column[0][:, None] >= column[0][None, :]
    sees_row = causal[None] & ~(in_branch[:, :, None] & hidden[:, None, :])  # [B, L, L]
    depth = torch.arange(prompt_index.shape[1])
    in_prompt = depth[None] < prompt_lengths[:, None]  # [P, Q]
    sees_prompt = in_prompt[family][:, None, :].expand(-1, len(column[0]), -1)  # [B, L, Q]
    start = prompt_lengths[family][:, None]
    return Packing(
        family=family,
        prompt_index=prompt_index,
        prompt_cells=prompt_cells,
        row_index=row_index,
        row_cells=row_cells,
        prompt_mask=(depth[:, None] >= depth[None, :]).expand(len(prompts), 1, -1, -1),
        row_mask=torch.cat([sees_prompt, sees_row], dim=2)[:, None],
        prompt_positions=depth.expand_as(prompt_index),
        row_positions=start + torch.where(in_branch, column - own + fork, column),
    )


def _table(lengths: Tensor) -> tuple[Tensor, Tensor]:
    """Packed index of each cell of a padded table [rows, longest], and each packed token's cell."""
    width = int(lengths.max())
    column = torch.arange(width)
    inside = column[None] < lengths[:, None]
    index = torch.zeros(inside.shape, dtype=torch.long)
    index[inside] = torch.arange(int(lengths.sum()))
    return index, inside.flatten().nonzero().flatten()
