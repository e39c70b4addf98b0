"""The page of `coclimb deploy --explain`: what to run on one machine, on many, and what fits where.

Every number on it is worked out by `flows.deployment.memory`; a test holds the settings that it
names against the configuration, and the commands against the command line.
"""

from __future__ import annotations

import math

from flows.deployment.memory import (
    SHAPES,
    Piece,
    Shape,
    as_read,
    checkpoint,
    engines,
    host,
    served,
    total,
    training,
)
from flows.errors import Refusal

GPU = 80.0  # gigabytes of the GPU that verdicts are for
SPARE = 0.85  # share of it that may be filled: the rest is activations and fragments
RANK = 32
LENGTH = 2048  # tokens of a row, prompt and attempt
WHOLE = 32 * 8 * LENGTH  # sampled at once without a queue: solver.tasks groups
ITEM = 4 * 8 * LENGTH  # and by a worker that has an item of work.shard=4 groups

ONE = """`coclimb init team.toml` writes the settings; model.base and data.source are yours to set.

1. One machine with 8 GPUs

  GPU 0 trains, the others sample and score for it. Without Prefect:

    CUDA_VISIBLE_DEVICES=0 coclimb run team.toml --name climb --set work.queue=true \\
        --set work.shard=4 &
    for g in 1 2 3 4 5 6 7; do CUDA_VISIBLE_DEVICES=$g coclimb worker & done

  With Prefect, a round every night at two:

    prefect server start &
    export PREFECT_API_URL=http://127.0.0.1:4200/api
    coclimb deploy team.toml --name climb --set work.queue=true --set work.shard=4 \\
        --gpus 8 --train-queue gpu-0 --cron '0 2 * * *' --rounds 30 --rounds-more 1
    for g in 0 1 2 3 4 5 6 7; do coclimb worker gpu-$g & done

  Where one GPU does not hold what trains, 4 train together and 4 help:

    coclimb deploy team.toml --name climb --set work.queue=true --set work.shard=4 \\
        --set work.helps=false --set learner.processes=4 --set learner.spread=fsdp2 \\
        --queues gpu-4,gpu-5,gpu-6,gpu-7
    CUDA_VISIBLE_DEVICES=0,1,2,3 coclimb worker train &
    for g in 4 5 6 7; do coclimb worker gpu-$g & done"""

MANY = """2. 16 machines of 8 GPUs under Prefect, with PostgreSQL

  On one of them, or beside them, PostgreSQL with two databases, and a Prefect server in one:

    export PREFECT_SERVER_DATABASE_CONNECTION_URL=postgresql+asyncpg://prefect:SECRET@db/prefect
    prefect server start --host 0.0.0.0

  On every machine, m01 to m16, with a folder that all of them see and the same version of coclimb
  (pip install 'coclimb[postgres,s3]'):

    export PREFECT_API_URL=http://prefect:4200/api
    export COCLIMB_HOME=/shared/coclimb
    export COCLIMB_STORE=postgresql://coclimb:SECRET@db/coclimb

  Once, on any of them (the password stays in the environment of each machine, out of Prefect):

    coclimb deploy team.toml --name climb --set work.queue=true --set work.shard=4 \\
        --set work.helps=false --set learner.processes=8 --set learner.spread=fsdp2 \\
        --set checkpoint.to=s3://bucket/runs --gpus 8 --machines $(seq -s, -f m%02g 2 16) \\
        --train-queue train --cron '0 2 * * *' --rounds 30 --rounds-more 1

  On m01 alone, whose 8 GPUs train:

    coclimb worker train

  On each other machine:

    for g in 0 1 2 3 4 5 6 7; do coclimb worker $(hostname)-gpu-$g & done

  120 queues help, with a worker each. Any of them may come, go or be killed: its item is taken by
  another. Where m01 is lost, `coclimb worker train` on another machine goes on with the run from
  the home, or from checkpoint.to. Without a shared folder set work.folder=s3://bucket/work too."""


def page(billions: float | None = None) -> str:
    """Plain text: three set-ups with their commands, then the arithmetic of one size or of all.

    Raises Refusal for a size that is none.
    """
    if billions is not None and not (math.isfinite(billions) and billions > 0):
        raise Refusal(f"--model-size {billions}: give billions of parameters, such as 7")
    chosen = SHAPES if billions is None else (nearest(billions),)
    return "\n\n".join([ONE, MANY, _nodes(), _fits(), *(arithmetic(shape) for shape in chosen)])


def nearest(billions: float) -> Shape:
    """The shape whose size is nearest, by ratio."""
    return min(SHAPES, key=lambda s: abs(math.log(s.parameters / (billions * 1e9))))


def arithmetic(shape: Shape) -> str:
    """What one model takes, piece by piece, of one process."""
    parts = [
        ("training all weights on one GPU", training(shape, "alone")),
        ("the same with learner.optimizer=adamw_8bit", training(shape, "alone", eight=True)),
        ("training all weights by fsdp2 on 8 GPUs, each", training(shape, "fsdp2", processes=8)),
        (f"training adapters of model.lora_rank={RANK} on one GPU", training(shape, "lora")),
        ("a worker's engines, an item at a time", engines(shape, tokens=ITEM)),
        ("a vLLM engine (engine.memory is its share of a GPU)", served(shape, tokens=WHOLE)),
        ("memory of the machine, of the process that climbs", host(shape)),
        ("memory of the machine, of a worker", [as_read(shape)]),
        ("memory of the machine, of 8 processes that train, at their start", [_eight(shape)]),
    ]
    head = (
        f"{shape.name}: {shape.parameters / 1e9:.2f}e9 parameters; {shape.layers} layers of "
        f"{shape.hidden}, {shape.kv_heads} key-value heads of {shape.head_dim}; keys and values "
        f"take {shape.cache / 1024:.0f} KiB a token"
    )
    lines = [head, *(line for title, pieces in parts for line in _listed(title, pieces))]
    full, small = checkpoint(shape), checkpoint(shape, rank=RANK)
    return "\n".join(
        [*lines, f"  a checkpoint: {_gb(full)} of all weights, {_gb(small)} of adapters"]
    )


def _listed(title: str, pieces: list[Piece]) -> list[str]:
    added = [f"    {_gb(piece.size):>9}  {piece.what}" for piece in pieces]
    return [f"  {title}: {_gb(total(pieces))}", *(added if len(pieces) > 1 else [])]


def _nodes() -> str:
    """What training over several machines needs, and that it is not there."""
    largest = SHAPES[-1]
    each, room = _shared_out(largest), SPARE * GPU * 1e9
    own = total(engines(largest, tokens=ITEM))
    enough = math.ceil(each / SPARE / 1e9)
    verdict = "fits" if each <= room else "does not fit"
    return f"""3. Training that needs FSDP over several machines

  This is not supported. learner.processes starts its group on one machine: accelerate is asked for
  num_machines 1, and plans and weights reach its processes through a folder and a socket of that
  machine. What trains must fit the GPUs of one machine. Over two machines each would run

    accelerate launch --num_machines 2 --machine_rank R --main_process_ip m01 \\
        --main_process_port 29500 --num_processes 16 ...

  and the group would have to hand out its work over the network; nothing here does. Instead:

  - {largest.name} by fsdp2 on 8 GPUs takes {_gb(each)} of each, without activations: it {verdict}
    {SPARE:.0%} of {GPU:.0f} GB; 8 GPUs of {enough} GB or more train it on one machine
  - its engines take {_gb(own)} of a worker's GPU; none is spread over several GPUs
  - use a machine with larger GPUs, or a smaller base; sampling spreads over any number of machines
    in either case (2), since only training stays on one"""


def _shared_out(shape: Shape) -> float:
    """Bytes of each of 8 GPUs that train by fsdp2."""
    return total(training(shape, "fsdp2", processes=8))


def _eight(shape: Shape) -> Piece:
    """The base that each of 8 processes reads before its share goes to its GPU."""
    return Piece("8 times the base as it was read, float32", 8 * as_read(shape).size)


def _fits() -> str:
    """A line a size: what each way takes of a GPU, and the settings that follow."""
    lines = [
        f"What fits a GPU of {GPU:.0f} GB, {SPARE:.0%} of it filled",
        "",
        f"  {'':14}{'all weights':>12}{'LoRA':>10}{'fsdp2 of 8':>12}{'a worker':>10}",
    ]
    return "\n".join([*lines, *(_line(shape) for shape in SHAPES)])


def _line(shape: Shape) -> str:
    ways = [
        total(training(shape, "alone")),
        total(training(shape, "lora")),
        _shared_out(shape),
        total(engines(shape, tokens=ITEM)),
    ]
    cells = "".join(
        f"{_gb(size):>{wide}}" for size, wide in zip(ways, (12, 10, 12, 10), strict=True)
    )
    return f"  {shape.name:14}{cells}\n      {settings(shape)}"


def settings(shape: Shape) -> str:
    """Settings that hold a model of this shape on one machine of 8 GPUs of 80 GB."""
    room, own = SPARE * GPU * 1e9, total(engines(shape, tokens=WHOLE))
    if total(training(shape, "alone")) + own <= room:
        return "nothing to set: one GPU trains, samples and scores"
    if total(training(shape, "lora")) + own <= room:
        return f"model.lora_rank={RANK}: one GPU trains, samples and scores"
    if _shared_out(shape) <= room:
        return (
            "learner.processes=8 learner.spread=fsdp2 work.queue=true work.helps=false work.shard=4"
            "\n      model.proxy_dtype=bfloat16, workers on GPUs of their own"
        )
    return "does not train on such a machine: see 3"


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 5e7 else f"{size / 1e9:.2f} GB"
