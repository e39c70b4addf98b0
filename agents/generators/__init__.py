"""Generators: each a small file; the table names them as config does."""

from __future__ import annotations

from collections.abc import Callable

from agents.generators.evolve import Evolve
from agents.prompts import Prompts
from pipeline.config import GeneratorConfig
from pipeline.ports import Engine, Generator

# each is made from an engine under the generator's weights; the number is the longest row it reads
GENERATORS: dict[str, Callable[[Engine, Prompts, GeneratorConfig, int], Generator]] = {
    "evolve": Evolve
}
