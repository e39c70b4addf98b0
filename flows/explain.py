from __future__ import annotations


def page(billions: float | None) -> str:
    return ""
