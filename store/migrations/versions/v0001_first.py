"""The first schema.

Columns are written "name:kind", with "?" where NULL is allowed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

KINDS: dict[str, Callable[[], Any]] = {
    "str": sa.String,
    "text": sa.Text,
    "int": sa.Integer,
    "float": sa.Double,
    "bool": sa.Boolean,
    "time": lambda: sa.DateTime(timezone=True),
    "bytes": sa.LargeBinary,
}
TABLES = (
    "run",
    "checkpoint",
    "lease",
    "pool",
    "probe",
    "proposed",
    "stage",
    "step",
    "stop",
    "sync",
    "task",
    "truth",
    "version",
    "learner_update",
    "rollout_group",
    "credit",
    "rollout",
    "evidence",
    "judgement",
    "proposal",
)


def upgrade() -> None:
    create_rounds()
    create_rollouts()
    create_indexes()


def downgrade() -> None:
    for name in reversed(TABLES):
        op.drop_table(name)


def table(name: str, columns: str, *constraints: sa.Constraint) -> None:
    made = []
    for column in columns.split():
        label, kind = column.rstrip("?").split(":")
        made.append(sa.Column(label, KINDS[kind](), nullable=column.endswith("?")))
    op.create_table(name, *made, *constraints)


def key(name: str, columns: list[str], targets: list[str]) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(columns, targets, name=op.f(name))


def check(name: str, condition: str) -> sa.CheckConstraint:
    return sa.CheckConstraint(condition, name=op.f(name))


def index(name: str, *columns: str) -> None:
    op.create_index(f"ix_{name}_{'_'.join(columns)}", name, list(columns))


def create_rounds() -> None:
    table(
        "run",
        "id:str number:int name:str? config:str config_digest:str environment:text seed:str "
        "rounds_asked:int parent_run_id:str? parent_round:int? status:str at:time",
        sa.PrimaryKeyConstraint("id", name="pk_run"),
        check("ck_run_status", "status IN ('running', 'paused', 'stopped', 'failed', 'done')"),
        key("fk_run_parent_run_id", ["parent_run_id"], ["run.id"]),
        sa.UniqueConstraint("number", name="uq_run_number"),
    )
    table(
        "checkpoint",
        "run_id:str round:int sequence:int folder:str manifest_digest:str versions:text "
        "state:str epoch:int at:time",
        sa.PrimaryKeyConstraint("run_id", "round", name="pk_checkpoint"),
        check("ck_checkpoint_state", "state IN ('kept', 'pruned')"),
        key("fk_checkpoint_run_id", ["run_id"], ["run.id"]),
        sa.UniqueConstraint("run_id", "sequence", name="uq_checkpoint_run_id_sequence"),
    )
    table(
        "lease",
        "run_id:str owner:str? host:str pid:int started:str epoch:int expires:float",
        sa.PrimaryKeyConstraint("run_id", name="pk_lease"),
        key("fk_lease_run_id", ["run_id"], ["run.id"]),
    )
    table(
        "pool",
        "run_id:str id:str position:int slice:str question:bytes reference:bytes "
        "reasoning:bytes right:bool",
        sa.PrimaryKeyConstraint("run_id", "id", name="pk_pool"),
        key("fk_pool_run_id", ["run_id"], ["run.id"]),
    )
    table(
        "probe",
        "run_id:str round:int axis:str name:str slice:str position:int value:float low:float "
        "high:float n:int version:str per_task:text",
        sa.PrimaryKeyConstraint("run_id", "round", "axis", "name", "slice", name="pk_probe"),
        check("ck_probe_axis", "axis IN ('solver', 'verifier', 'generator')"),
        key("fk_probe_run_id", ["run_id"], ["run.id"]),
    )
    table(
        "proposed",
        "run_id:str round:int digest:str epoch:int at:time",
        sa.PrimaryKeyConstraint("run_id", "round", name="pk_proposed"),
        key("fk_proposed_run_id", ["run_id"], ["run.id"]),
    )
    table(
        "stage",
        "run_id:str round:int stage:str sequence:int rows:str content:str digest:str epoch:int "
        "at:time",
        sa.PrimaryKeyConstraint("run_id", "round", "stage", name="pk_stage"),
        check("ck_stage_stage", "stage IN ('propose', 'climb', 'sync', 'checkpoint', 'probe')"),
        key("fk_stage_run_id", ["run_id"], ["run.id"]),
        sa.UniqueConstraint("run_id", "sequence", name="uq_stage_run_id_sequence"),
    )
    table(
        "step",
        "run_id:str step:int round:int digest:str seconds:text epoch:int at:time",
        sa.PrimaryKeyConstraint("run_id", "step", name="pk_step"),
        key("fk_step_run_id", ["run_id"], ["run.id"]),
    )
    table(
        "stop",
        "run_id:str number:int status:str reason:str at:time",
        sa.PrimaryKeyConstraint("run_id", "number", name="pk_stop"),
        check("ck_stop_status", "status IN ('running', 'paused', 'stopped', 'failed', 'done')"),
        key("fk_stop_run_id", ["run_id"], ["run.id"]),
    )
    table(
        "sync",
        "run_id:str step:int stage:str position:int round:int rule:str source:str before:str "
        "after:str alpha:float probe_before:text? probe_after:text? accepted:bool reason:str",
        sa.PrimaryKeyConstraint("run_id", "step", "stage", "position", name="pk_sync"),
        check("ck_sync_stage", "stage IN ('climb', 'sync')"),
        key("fk_sync_run_id", ["run_id"], ["run.id"]),
    )
    table(
        "task",
        "run_id:str id:str state:str made_round:int made_step:int? position:int round:int "
        "origin:str confidence:float question:str question_raw:bytes question_digest:str "
        "reference:str reference_raw:bytes parent_id:str? proposal_id:str?",
        sa.PrimaryKeyConstraint("run_id", "id", "state", name="pk_task"),
        check(
            "ck_task_origin",
            "origin IN ('human', 'document', 'executor', 'rule', 'generator', 'consensus')",
        ),
        check("ck_task_state", "state IN ('seed', 'candidate', 'admitted', 'attempted')"),
        key("fk_task_run_id", ["run_id"], ["run.id"]),
    )
    table(
        "truth",
        "run_id:str kind:str subject:str told_by:str round:int right:bool",
        sa.PrimaryKeyConstraint("run_id", "kind", "subject", "told_by", name="pk_truth"),
        key("fk_truth_run_id", ["run_id"], ["run.id"]),
    )
    table(
        "version",
        "run_id:str id:str line:str step:int parents:text checksum:str made_by:str "
        "made_round:int made_step:int? position:int",
        sa.PrimaryKeyConstraint("run_id", "id", name="pk_version"),
        check("ck_version_line", "line IN ('solver', 'generator', 'proxy')"),
        check("ck_version_made_by", "made_by IN ('climb', 'sync', 'checkpoint')"),
        key("fk_version_run_id", ["run_id"], ["run.id"]),
    )


def create_rollouts() -> None:
    table(
        "learner_update",
        "run_id:str step:int line:str loss:float policy_loss:float answer_loss:float kl:float "
        "grad_norm:float clipped:float entropy:float mismatch:float tokens:int rows:int "
        "dead_groups:int unspliced:int",
        sa.PrimaryKeyConstraint("run_id", "step", "line", name="pk_learner_update"),
        check("ck_learner_update_line", "line IN ('solver', 'generator', 'proxy')"),
        key("fk_learner_update_run_id_step", ["run_id", "step"], ["step.run_id", "step.step"]),
    )
    table(
        "rollout_group",
        "run_id:str id:str role:str made_by:str round:int position:int task_run_id:str "
        "task_id:str task_state:str size:int digest:str",
        sa.PrimaryKeyConstraint("run_id", "id", name="pk_rollout_group"),
        check("ck_rollout_group_made_by", "made_by IN ('propose', 'climb')"),
        check("ck_rollout_group_role", "role IN ('solver', 'generator')"),
        key("fk_rollout_group_run_id", ["run_id"], ["run.id"]),
        key(
            "fk_rollout_group_task_run_id_task_id_task_state",
            ["task_run_id", "task_id", "task_state"],
            ["task.run_id", "task.id", "task.state"],
        ),
    )
    table(
        "credit",
        "run_id:str group_id:str step:int position:int components:text",
        sa.PrimaryKeyConstraint("run_id", "group_id", name="pk_credit"),
        key(
            "fk_credit_run_id_group_id",
            ["run_id", "group_id"],
            ["rollout_group.run_id", "rollout_group.id"],
        ),
        key("fk_credit_run_id_step", ["run_id", "step"], ["step.run_id", "step.step"]),
    )
    table(
        "rollout",
        "run_id:str id:str group_id:str position:int version:str seed:str stop:str form:str "
        "text:str altered:bool completion:bytes first:bytes final:bytes tokens:bytes "
        "written:bytes logprobs:bytes",
        sa.PrimaryKeyConstraint("run_id", "id", name="pk_rollout"),
        check(
            "ck_rollout_form",
            "form IN ('ok', 'empty', 'truncated', 'unclosed', 'nested', "
            "'repeated', 'reordered', 'missing_reasoning', 'missing_answer', 'text_outside')",
        ),
        check("ck_rollout_stop", "stop IN ('end', 'length')"),
        key(
            "fk_rollout_run_id_group_id",
            ["run_id", "group_id"],
            ["rollout_group.run_id", "rollout_group.id"],
        ),
    )
    table(
        "evidence",
        "run_id:str rollout_id:str version:str status:str reference_logprobs:bytes "
        "baseline_logprobs:bytes reference_mean:float? baseline_mean:float? "
        "reasoning_tokens:int detail:bytes",
        sa.PrimaryKeyConstraint("run_id", "rollout_id", "version", name="pk_evidence"),
        check(
            "ck_evidence_status",
            "status IN ('measured', 'malformed', 'score_error', 'too_long', 'not_measured')",
        ),
        key(
            "fk_evidence_run_id_rollout_id",
            ["run_id", "rollout_id"],
            ["rollout.run_id", "rollout.id"],
        ),
    )
    table(
        "judgement",
        "run_id:str rollout_id:str seat:int? evidence_version:str? reward:float? "
        "advantage:float? answer_weight:float?",
        sa.PrimaryKeyConstraint("run_id", "rollout_id", name="pk_judgement"),
        check("ck_judgement_kept", "(seat IS NULL) = (reward IS NULL)"),
        key(
            "fk_judgement_run_id_rollout_id",
            ["run_id", "rollout_id"],
            ["rollout.run_id", "rollout.id"],
        ),
    )
    table(
        "proposal",
        "run_id:str rollout_id:str phase:str candidate_id:str? verdict:str attempts:int "
        "solved:float? beats:float? agreement:float? confidence:float? similarity:float "
        "task_id:str?",
        sa.PrimaryKeyConstraint("run_id", "rollout_id", "phase", name="pk_proposal"),
        check("ck_proposal_phase", "phase IN ('proposed', 'judged')"),
        key(
            "fk_proposal_run_id_rollout_id",
            ["run_id", "rollout_id"],
            ["rollout.run_id", "rollout.id"],
        ),
    )


def create_indexes() -> None:
    index("run", "name")
    index("run", "parent_run_id")
    index("step", "run_id", "round")
    index("sync", "run_id", "round")
    index("task", "question_digest")
    index("task", "run_id", "made_round", "state")
    index("truth", "round")
    index("version", "run_id", "made_round", "made_step")
    index("rollout_group", "run_id", "round", "made_by")
    index("rollout_group", "task_run_id", "task_id", "task_state")
    index("credit", "run_id", "step", "position")
    index("rollout", "run_id", "group_id", "position")
    index("rollout", "run_id", "version")
