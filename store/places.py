"""Where a run's things are, as its row says: settings that no digest covers."""

from __future__ import annotations

from sqlalchemy.orm import Session

from store.database import Lease, Store
from store.schema import RunRow


def record_place(store: Store, lease: Lease, config: str) -> None:
    """Keep a run's configuration with other settings of where things are.

    config  the one it was begun with, but for settings that no digest covers
    """

    def work(session: Session) -> None:
        session.get_one(RunRow, lease.run).config = config

    store.write(lease, work)
