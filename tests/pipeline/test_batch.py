from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.batch import Row, micro_batches, pack, plan
from tests.pipeline.credits import CLOSE, OPEN, SPLICE, credited, random_groups, rollout

PROMPT = (10, 11, 12)


def row_of(completion: tuple[int, ...], advantage: float = 1.0, weight: float = 0.0) -> Row:
    rows = plan(
        [credited([rollout(PROMPT, completion)], [advantage], [weight])],
        SPLICE,
        "solver@0",
        every=False,
    ).rows
    return rows[0]


def test_a_row_reads_the_last_prompt_token_and_all_it_wrote_but_the_last():
    row = row_of((20, 21, 1))
    assert (row.prompt, row.tokens) == ((10, 11), (12, 20, 21))
    assert (row.at, row.targets) == ((0, 1, 2), (20, 21, 1))
    assert (row.branch, row.answer) == ((), ())


def test_the_branch_starts_behind_the_first_opening_tag_of_the_completion():
    # <answer> at index 1 of the completion; the prompt's own tag is not the policy's
    rows = plan(
        [credited([rollout((OPEN, 12), (20, OPEN, 33, OPEN, CLOSE, 1))], [1.0], [0.5])],
        SPLICE,
        "solver@0",
        every=False,
    ).rows
    assert rows[0].tokens == (12, 20, OPEN, 33, OPEN, CLOSE)
    assert rows[0].fork == 3  # sees 12, 20, <answer>
    assert (rows[0].branch, rows[0].answer) == ((7, 8), (7, 8, CLOSE))


def test_a_packed_row_holds_hand_worked_positions_slots_and_mask():
    batch = pack([row_of((20, OPEN, 33, CLOSE), weight=1.0)])
    #                prompt   own             branch
    assert batch.tokens.tolist() == [10, 11, 12, 20, OPEN, 33, 7, 8]
    assert batch.positions.tolist() == [0, 1, 2, 3, 4, 5, 5, 6]
    assert batch.at.tolist() == [2, 3, 4, 5, 4, 6, 7]
    assert batch.targets.tolist() == [20, OPEN, 33, CLOSE, 7, 8, CLOSE]
    sees = batch.packing.row_mask[0, 0].int().tolist()
    assert sees[3] == [1, 1, 1, 1, 1, 1, 0, 0]  # 33 sees prompt, 12, 20, <answer>, itself
    assert sees[4] == [1, 1, 1, 1, 1, 0, 1, 0]  # 7 sees the same but 33
    assert sees[5] == [1, 1, 1, 1, 1, 0, 1, 1]
    assert batch.packing.row_positions.tolist() == [[2, 3, 4, 5, 5, 6]]


def test_siblings_read_their_prompt_once():
    group = credited([rollout(PROMPT, (20, 1)), rollout(PROMPT, (21, 22, 1))], [1.0, -1.0])
    batch = pack(plan([group], SPLICE, "solver@0", every=False).rows)
    assert batch.tokens.tolist() == [10, 11, 12, 20, 12, 21, 22]
    assert batch.packing.family.tolist() == [0, 0]


def test_dead_groups_are_dropped_and_counted():
    dead = credited([rollout(PROMPT, (20, 1))] * 2, [0.0, 0.0])
    live = credited([rollout(PROMPT, (20, 1)), rollout(PROMPT, (21, 22, 1))], [1.0, -1.0])
    share = plan([dead, live, dead], SPLICE, "solver@0", every=False)
    assert (share.dead_groups, share.written, len(share.rows)) == (2, 5, 2)


def test_a_rollout_without_advantage_or_weight_is_not_read_but_stays_in_the_denominator():
    rows = [rollout(PROMPT, (20, 1)), rollout(PROMPT, (21, 22, 1)), rollout(PROMPT, (23, 1))]
    group = credited(rows, [1.0, 0.0, -1.0])
    share = plan([group], SPLICE, "solver@0", every=False)
    assert (len(share.rows), share.written) == (2, 7)
    assert (
        len(plan([group], SPLICE, "solver@0", every=True).rows) == 3
    )  # a divergence is felt by all


def test_a_rollout_with_a_weight_alone_is_read_up_to_the_splice():
    row = row_of((20, OPEN, 33, CLOSE, 1), advantage=0.0, weight=0.3)
    assert (row.tokens, row.at, row.fork) == ((12, 20, OPEN), (), 3)


def test_a_completion_without_the_tag_has_no_branch_and_is_counted():
    group = credited([rollout(PROMPT, (20, 1))] * 2, [1.0, -1.0], [0.5, 0.0])
    share = plan([group], SPLICE, "solver@0", every=False)
    assert (share.rows[0].answer, share.reference_tokens, share.unspliced) == ((), 0, 1)


def test_rollouts_of_other_weights_are_stale():
    rows = [rollout(PROMPT, (20, 1)), rollout(PROMPT, (21, 1), version="solver@3")]
    share = plan([credited(rows, [1.0, -1.0])], SPLICE, "solver@3", every=False)
    assert [row.stale for row in share.rows] == [True, False]


def test_a_rollout_that_no_prompt_predicts_is_refused():
    promptless = credited([rollout((), (20, 1))], [1.0])
    with pytest.raises(ValueError, match="first token is written"):
        plan([promptless], SPLICE, "solver@0", every=False)


@given(seed=st.integers(0, 50), budget=st.integers(1, 200))
def test_every_row_is_packed_once_and_none_beyond_the_budget_but_a_lone_one(seed: int, budget: int):
    rows = plan(random_groups(seed), SPLICE, "solver@0", every=False).rows
    batches = list(micro_batches(rows, budget))
    assert sum(batch.rows for batch in batches) == len(rows)
    assert all(len(batch.tokens) <= budget or batch.rows == 1 for batch in batches)
    targets = sorted(t for batch in batches for t in batch.targets.tolist())
    assert targets == sorted(t for row in rows for t in row.targets + row.answer)


@given(seed=st.integers(0, 50), budget=st.integers(1, 200))
def test_whole_groups_are_never_split_and_share_a_micro_batch_where_they_fit(
    seed: int, budget: int
):
    rows = plan(random_groups(seed), SPLICE, "solver@0", every=True).rows
    batches = list(micro_batches(rows, budget, whole_groups=True))
    held = [batch.groups.tolist() for batch in batches]
    assert sorted(g for batch in held for g in batch) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert sum(len(set(batch)) for batch in held) == 3
    assert all(len(b.tokens) <= budget or len(set(b.groups.tolist())) == 1 for b in batches)


def test_rows_know_their_group_by_number_and_what_they_earned():
    first, second = random_groups(0, groups=2)
    earned = replace(second, judged=replace(second.judged, rewards=(1.0, 0.0, 0.5)))
    batch = pack(plan([first, earned], SPLICE, "solver@0", every=True).rows)
    assert batch.groups.tolist() == [0, 0, 0, 1, 1, 1]
    assert batch.rewards.tolist() == [0.0, 0.0, 0.0, 1.0, 0.0, 0.5]


def test_masks_become_terms_of_the_attention_dtype():
    batch = pack([row_of((20, 1))]).on(torch.device("cpu"), torch.bfloat16)
    assert batch.packing.row_mask.dtype == torch.bfloat16
    assert set(batch.packing.row_mask.unique().tolist()) == {0.0, torch.finfo(torch.bfloat16).min}
