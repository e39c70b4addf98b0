"""Sets Prefect's environment for a worker, then imports it."""

from __future__ import annotations

import os

from flows.server import lasting


def serve_queue(queue: str, pool: str) -> None:
    """Serve a queue of Prefect's until told to stop. Raises Refusal where it is not there."""
    os.environ.update(lasting(os.environ))
    from flows.deployment.workers import serve  # noqa: PLC0415 - Prefect reads its environment

    serve(queue, pool)
