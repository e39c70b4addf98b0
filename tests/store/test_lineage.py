from __future__ import annotations

from dataclasses import replace

import pytest
from store_story import Writer, new_run, step

from store.database import Store
from store.errors import Unknown
from store.leases import acquire_lease
from store.ledger import record_step
from store.lineage import SHOWN, Node, lineage
from store.shelf import group_names, read_groups


def shape(node: Node) -> str:
    """kind:id with children in brackets, so that a whole tree reads on one line."""
    inside = " ".join(shape(child) for child in node.children)
    return f"{node.kind}:{node.id}" + (f"({inside})" if inside else "")


def test_a_task_leads_to_its_proposal_the_weights_that_wrote_it_and_its_parent(
    told: Store,
) -> None:
    tree = lineage(told, "runa", "task:r01-p000-g1")
    assert shape(tree) == (
        "task:r01-p000-g1("
        "proposal:r01-p000-g1(version:solver@0 reward:r01-p000-g1(update:solver@1)) "
        "task:seed-0)"
    )
    assert tree.facts["state"] == "admitted"
    assert tree.facts["reference"] == "forty\ufffd-two"


def test_a_rollout_leads_to_task_policy_verifier_reward_and_update(told: Store) -> None:
    tree = lineage(told, "runa", "r01-s0002-n0-g1")
    assert shape(tree) == (
        "rollout:r01-s0002-n0-g1("
        "task:seed-1 "
        "version:solver@1(update:solver@1 version:solver@0) "
        "evidence:r01-s0002-n0-g1(version:proxy@0) "
        "reward:r01-s0002-n0-g1(update:solver@2))"
    )


def test_a_proxy_version_leads_to_its_sync_and_both_parents(told: Store) -> None:
    tree = lineage(told, "runa", "proxy@2", depth=2)
    assert shape(tree) == (
        "version:proxy@2(sync:proxy@0 -> proxy@2 version:proxy@0 version:solver@2)"
    )


def test_a_checkpoint_leads_to_the_versions_it_holds(told: Store) -> None:
    tree = lineage(told, "runa", "checkpoint@1", depth=2)
    assert shape(tree) == "checkpoint:checkpoint@1(version:solver@2 version:proxy@2)"


def test_depth_bounds_the_tree(told: Store) -> None:
    assert lineage(told, "runa", "solver@4", depth=1).children == ()


def test_a_fork_follows_ids_into_the_rounds_it_inherited(told: Store) -> None:
    parent = "runa"
    child = new_run(told, "child", parent=(parent, 1))
    lease = acquire_lease(told, child, "teller", 600)
    for act in Writer(told, lease).acts((2,)):
        act()
    tree = lineage(told, child, "r02-s0003-n0-g1")
    assert tree.run == child
    assert {node.run for node in tree.children if node.kind == "version"} == {parent}
    assert lineage(told, child, "checkpoint@1").run == parent


def test_weights_that_learned_from_the_store_lead_to_what_they_studied(told: Store) -> None:
    run = new_run(told, "pupil", parent=("runa", 0))
    lease = acquire_lease(told, run, "teller", 600)
    studied = tuple(read_groups(told, group_names(told, "runa", 2, 0.0)[: SHOWN + 1]))
    record_step(told, lease, replace(step(1, 0), credited=(), tasks=(), studied=studied))
    update, before = lineage(told, run, "solver@1").children
    assert before.id == "solver@0"
    assert update.facts["studied"] == SHOWN + 1
    assert [(one.kind, one.run, one.id) for one in update.children] == [
        ("group", *one.name) for one in studied[:SHOWN]
    ]
    assert update.children[0].facts == {
        "run": "runa", "round": 1, "task": studied[0].judged.group.task.id,
    }  # fmt: skip


@pytest.mark.parametrize("id", ["nothing", "rollout:seed-0", "checkpoint@9", "checkpoint@x"])
def test_an_id_that_no_row_holds_is_refused(told: Store, id: str) -> None:
    with pytest.raises(Unknown, match="has no task, rollout, version or checkpoint"):
        lineage(told, "runa", id)


def test_a_kind_that_has_no_lineage_is_refused(told: Store) -> None:
    with pytest.raises(Unknown, match="'update' has no lineage"):
        lineage(told, "runa", "update:solver@1")
