"""Verifiers: each a small file that measures; the table names them as config does."""

from __future__ import annotations

from agents.verifiers.perplexity import Perplexity

VERIFIERS: dict[str, type[Perplexity]] = {"perplexity": Perplexity}
