"""Verifiers: each a small file that measures; the table names them as config does."""

from __future__ import annotations

from collections.abc import Callable

from agents.prompts import Prompts
from agents.verifiers.perplexity import Perplexity
from pipeline.config import VerifierConfig
from pipeline.ports import Engine, Verifier

# each is made from an engine under the proxy's weights; the number is the longest row it can read
VERIFIERS: dict[str, Callable[[Engine, Prompts, VerifierConfig, int], Verifier]] = {
    "perplexity": Perplexity
}
