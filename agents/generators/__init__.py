"""Generators: each a small file; the table names them as config does."""

from __future__ import annotations

from agents.generators.evolve import Evolve

GENERATORS: dict[str, type[Evolve]] = {"evolve": Evolve}
