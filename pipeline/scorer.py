"""What a policy says of the tokens it is trained on: log-probabilities and entropies by slot.

Only positions that carry loss go through the vocabulary head, in chunks, so no tensor of a whole
micro-batch by vocabulary exists.

Axes: T packed tokens, S policy slots, A answer slots, V vocabulary.
"""

from __future__ import annotations

from typing import Any
from warnings import catch_warnings, simplefilter

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from pipeline.batch import MicroBatch
from pipeline.models.attention import use_packed

CHUNK = 2**24  # logits held at once in float32: 64 MB
_READY = (
    1,
    1,
    1,
    1,
)  # a 4D mask is taken as is, so transformers builds none; the packing holds ours


class Scorer(nn.Module):
    """A causal language model, asked for the slots of a micro-batch.

    recompute  keep what goes into each decoder layer alone, and work the rest out again in the
               backward pass: memory for time, the same gradient

    Raises ValueError for a model that cannot read packed rows, or that does more to its logits
    than its head does, or that cannot work its layers out again alike.
    """

    def __init__(self, model: PreTrainedModel, *, recompute: bool = False) -> None:
        super().__init__()
        self.model = model
        use_packed(model)
        _check_head(model)
        if recompute:
            _recompute_layers(model)

    def forward(self, batch: MicroBatch, temperature: float) -> tuple[Tensor, Tensor]:
        """Log-probabilities [S + A], the policy's at `temperature`, the answers' at 1.

        Also the entropies [S] in nats at that temperature, without gradient.
        """
        hidden = self.model.base_model(
            input_ids=batch.tokens[None],
            position_ids=batch.positions[None],
            attention_mask=torch.empty(_READY, device=batch.tokens.device),
            use_cache=False,
            packing=batch.packing,
        ).last_hidden_state[0]
        picked = hidden.index_select(0, batch.at)
        slots, width = batch.policy_slots, self.model.config.get_text_config().vocab_size
        heat = torch.ones(len(picked), 1, device=picked.device)
        heat[:slots] = temperature
        size = max(1, CHUNK // width)
        parts = list(
            zip(picked.split(size), batch.targets.split(size), heat.split(size), strict=True)
        )
        if len(parts) == 1:
            scored = [self._score(*parts[0])]
        else:
            scored = [checkpoint(self._score, *part, use_reentrant=False) for part in parts]
        logprobs, entropies = (torch.cat(column) for column in zip(*scored, strict=True))
        return logprobs, entropies[:slots]

    def _score(self, hidden: Tensor, targets: Tensor, heat: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.model.get_output_embeddings()(hidden).float()
        if bool((heat != 1.0).any()):
            logits = logits / heat
        # torch leaves `apply` untyped
        scored: tuple[Tensor, Tensor] = _Picked.apply(logits, targets)  # type: ignore[no-untyped-call]
        return scored


class _Picked(torch.autograd.Function):
    """logits [n, V], targets [n] -> log-probabilities [n] of the targets, entropies [n].

    Keeps the probabilities alone for the backward pass, d logits = g * (onehot - p): three passes
    over [n, V] fewer than log_softmax, gather and their own gradients. Entropies have no gradient.
    """

    @staticmethod
    def forward(context: Any, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logs = torch.log_softmax(logits, dim=-1)
        picked = logs.gather(1, targets[:, None])[:, 0]
        shares = logs.exp()
        entropies = -torch.linalg.vecdot(shares, logs)
        context.save_for_backward(shares, targets)
        context.mark_non_differentiable(entropies)
        return picked, entropies

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        shares, targets = context.saved_tensors
        gradient = gradients[0][:, None]
        return (shares * -gradient).scatter_add_(1, targets[:, None], gradient), None


def _recompute_layers(model: PreTrainedModel) -> None:
    """Checkpoint each layer; transformers does so in a layer that is in training alone.

    That says nothing to the modules in the layer, which stay without dropout; a layer that drops
    out by itself would, and is refused.
    """
    tokens = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    with torch.no_grad():
        before = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    with catch_warnings():
        simplefilter("ignore", FutureWarning)  # newer releases of transformers rename it
        model.gradient_checkpointing_enable({"use_reentrant": False})
    for module in model.modules():
        if isinstance(module, GradientCheckpointingLayer):
            module.training = True
    with torch.no_grad():
        after = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
    if not torch.equal(before, after):
        raise ValueError(
            f"{type(model).__name__} drops out within its layers, which working them out again "
            "would switch on; set learner.gradient_checkpointing=false"
        )


def _check_head(model: PreTrainedModel) -> None:
    """Compare the head alone with the model's own logits on two tokens."""
    tokens = torch.zeros((1, 2), dtype=torch.long, device=model.device)
    with torch.no_grad():
        hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        alone = model.get_output_embeddings()(hidden).float()
        whole = model(input_ids=tokens, use_cache=False).logits.float()
    if not torch.allclose(alone, whole, rtol=1e-2, atol=1e-2):
        raise ValueError(
            f"{type(model).__name__} caps or scales its logits after the head, which packed "
            "training would leave out; choose a base that does not"
        )
