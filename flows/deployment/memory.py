"""What a model takes of memory while a run trains it, samples from it and scores with it.

Bytes a parameter, as the code holds them: `pipeline.learning.trainee` for what trains,
`pipeline.models.proxy` and `flows.engines` for the rest. Activations are not in it:
`learner.token_budget` bounds them, and `learner.gradient_checkpointing` trades them for time.
Gigabytes are 10^9 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

WEIGHT, GRADIENT, MOMENTS, MOMENTS_8BIT, HALF = 4, 4, 8, 2, 2  # bytes a parameter
Way = Literal["alone", "fsdp2", "lora"]


@dataclass(frozen=True, slots=True)
class Shape:
    """A decoder as Qwen2.5 builds it: grouped queries with biases, a gated MLP, RMS norms.

    tied  whether the head is the embedding
    """

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    inner: int
    words: int
    tied: bool

    @property
    def linears(self) -> list[tuple[int, int]]:
        """Rows in and out of every linear layer of a decoder layer."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = [(self.hidden, queries), (self.hidden, keys), (self.hidden, keys)]
        mlp = [(self.hidden, self.inner), (self.hidden, self.inner), (self.inner, self.hidden)]
        return [*attention, (queries, self.hidden), *mlp]

    @property
    def parameters(self) -> int:
        """All of them: embeddings, layers, norms."""
        biases = (self.heads + 2 * self.kv_heads) * self.head_dim
        layer = sum(a * b for a, b in self.linears) + biases + 2 * self.hidden
        embeddings = self.words * self.hidden * (1 if self.tied else 2)
        return embeddings + self.layers * layer + self.hidden

    def adapters(self, rank: int) -> int:
        """Parameters of LoRA adapters on every linear layer but the head."""
        return self.layers * rank * sum(a + b for a, b in self.linears)

    @property
    def cache(self) -> int:
        """Bytes of keys and values a token, in bfloat16."""
        return 2 * self.layers * self.kv_heads * self.head_dim * HALF


SHAPES = (
    Shape("Qwen2.5-1.5B", 1536, 28, 12, 2, 128, 8960, 151_936, tied=True),
    Shape("Qwen2.5-7B", 3584, 28, 28, 4, 128, 18_944, 152_064, tied=False),
    Shape("Qwen2.5-32B", 5120, 64, 40, 8, 128, 27_648, 152_064, tied=False),
)


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing that is held. size: bytes, of one process."""

    what: str
    size: float


def training(
    shape: Shape, way: Way, *, processes: int = 1, rank: int = 32, eight: bool = False
) -> list[Piece]:
    """What one process holds on its GPU to train in bfloat16, without activations.

    alone  all weights in it, also where several such replicas add their gradients up
    fsdp2  a share of weights, gradients and moments, and one layer gathered
    lora   adapters; the frozen base stays, in float32 and as the copy that computes
    """
    count, moments = shape.parameters, MOMENTS_8BIT if eight else MOMENTS
    if way == "lora":
        taught = shape.adapters(rank)
        each = WEIGHT + HALF + HALF + GRADIENT + moments
        return [
            Piece("frozen base, float32", count * WEIGHT),
            Piece("frozen base, bfloat16 that computes", count * HALF),
            Piece(f"adapters of rank {rank}, with gradients and moments", taught * each),
        ]
    share = count / processes if way == "fsdp2" else float(count)
    held = [
        Piece("weights, float32", share * WEIGHT),
        Piece("gradients, float32", share * GRADIENT),
        Piece(f"AdamW moments, {'8-bit' if eight else 'float32'}", share * moments),
    ]
    if way == "fsdp2":
        layer = max(sum(a * b for a, b in shape.linears), shape.words * shape.hidden)
        return [*held, Piece("largest layer, gathered in bfloat16, twice", 2 * layer * HALF)]
    copy = Piece("copy that computes, bfloat16", count * HALF)
    return [*held, copy, Piece("its gradients of one micro-batch, bfloat16", count * HALF)]


def as_read(shape: Shape) -> Piece:
    """What every process that makes engines keeps in the machine's memory, and every process of a
    group reads there before its share of it goes to its GPU."""
    return Piece("the base as it was read, float32", shape.parameters * WEIGHT)


def engines(shape: Shape, *, tokens: int) -> list[Piece]:
    """What sampling and scoring take of one GPU, in bfloat16.

    tokens  of all rows that are sampled at once, prompts included
    """
    count = shape.parameters
    return [
        Piece("sampler, bfloat16", count * HALF),
        Piece(f"its keys and values, {tokens:,} tokens", tokens * shape.cache),
        Piece("scorer, with model.proxy_dtype=bfloat16", count * HALF),
    ]


def served(shape: Shape, *, tokens: int) -> list[Piece]:
    """What one vLLM engine needs: weights, and room for keys and values."""
    cache = Piece(f"keys and values, {tokens:,} tokens", tokens * shape.cache)
    return [Piece("weights, bfloat16", shape.parameters * HALF), cache]


def host(shape: Shape) -> list[Piece]:
    """What the process that climbs holds in the machine's memory, beside its GPU."""
    count = shape.parameters
    return [
        as_read(shape),
        Piece("proxy, float32", count * WEIGHT),
        Piece("proxy before the last sync, float32", count * WEIGHT),
        Piece("policy while it is published, float32", count * WEIGHT),
    ]


def checkpoint(shape: Shape, *, rank: int = 0, eight: bool = False) -> float:
    """Bytes of one checkpoint: what trains with its moments, and the proxy in float32."""
    taught = shape.adapters(rank) if rank else shape.parameters
    moments = MOMENTS_8BIT if eight else MOMENTS
    return float(taught * (WEIGHT + moments) + shape.parameters * WEIGHT)


def total(pieces: list[Piece]) -> float:
    """Bytes of all pieces."""
    return sum(piece.size for piece in pieces)
