"""Generators: each a small file; the table names them as config does."""

from __future__ import annotations

from collections.abc import Callable

from agents.generators.evolve import Evolve
from agents.prompts import Prompts
from pipeline.config import GeneratorConfig
from pipeline.ports import Engine, Generator

GENERATORS: dict[str, Callable[[Engine, Prompts, GeneratorConfig], Generator]] = {"evolve": Evolve}
