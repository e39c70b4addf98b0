"""Settings of how a run's sampling and scoring are shared out among workers."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipeline.files.address import Address
from pipeline.settings.section import Positive, Section


class WorkConfig(Section):
    shard: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Groups per item of work; 0 keeps each call whole. Items are worked out one by "
        "one wherever that happens, so this decides last bits, and the number of workers nothing.",
    )
    queue: bool = Field(
        False,
        description="Put items into the store for `coclimb worker` to take, instead of working "
        "them out in this process alone.",
    )
    helps: bool = Field(
        True, description="Whether the process that trains takes items too while it waits."
    )
    lease: Annotated[float, Field(gt=0)] = Field(
        60.0, description="Seconds for which an item belongs to its worker unless renewed."
    )
    item_seconds: Positive = Field(
        7200,
        description="Longest that a worker may take for one item, the start of its engine "
        "included; then another may have it, as a call that hangs cannot be told from a slow one.",
    )
    folder: Address = Field(
        "",
        description="Where weights for workers are put: a folder or an fsspec URL that every "
        "machine sees; empty for the home.",
    )
