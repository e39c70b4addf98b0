"""The rules of the house: who may import whom, what each room needs, how high a module stands."""

from __future__ import annotations

MAY_IMPORT = {
    "pipeline": {"pipeline"},
    "agents": {"agents", "pipeline"},
    "store": {"store", "pipeline"},
    "flows": {"flows", "agents", "store", "pipeline"},
}
PACKAGES = {
    "pipeline": {
        "torch", "transformers", "accelerate", "safetensors", "pydantic", "numpy",
        "huggingface_hub", "tokenizers", "peft", "vllm", "fsspec", "bitsandbytes",
    },
    "agents": {"torch", "transformers", "math_verify"},
    "store": {"sqlalchemy", "alembic", "pydantic", "pydantic_core", "psycopg", "_typeshed"},
}  # fmt: skip
# the longest name that a module begins with decides its floor
FLOORS = {
    "pipeline": 0,
    "pipeline.types": 0,
    "pipeline.config": 0,
    "pipeline.files.address": 0,
    "pipeline.settings": 0,
    "pipeline.faults": 0,
    "pipeline.seeds": 0,
    "pipeline.text": 1,
    "pipeline.quantiles": 1,
    "pipeline.meters": 1,
    "pipeline.rewards": 1,
    "pipeline.advantages": 1,
    "pipeline.agreement": 1,
    "pipeline.objectives": 1,
    "pipeline.offline": 1,
    "pipeline.surrogates": 1,
    "pipeline.recipes": 1,
    "pipeline.curriculum": 1,
    "pipeline.parents": 1,
    "pipeline.batch": 1,
    "pipeline.parity": 1,
    "pipeline.learning.dealing": 1,
    "pipeline.learning.order": 1,
    "pipeline.measures": 1,
    "pipeline.ports": 2,
    "pipeline.crew": 2,
    "pipeline.items": 2,
    "pipeline.engine": 3,
    "pipeline.models": 3,
    "pipeline.files": 3,
    "pipeline.learning": 3,
    "pipeline.scorer": 3,
    "pipeline.worlds": 3,
    "pipeline.environments": 3,
    "pipeline.evaluation.exam": 3,  # what is asked, which environments hand out; not the asking
    "pipeline.step": 4,
    "pipeline.syncing": 4,
    "pipeline.round": 4,
    "pipeline.study": 4,
    "pipeline.evaluation": 4,
}
