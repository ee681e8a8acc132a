"""What is optimized and averaged, and its optimizer (Table 8)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dcar.config import LossConfig
from dcar.model import DCAR, Losses, Randomness
from dcar.modules.condition import Encoder
from dcar.train_config import OptimizerConfig


class Learner(nn.Module):
    """The model, and its text encoder where that trains with it."""

    def __init__(self, model: DCAR, text: Encoder) -> None:
        super().__init__()
        self.model = model
        self.text = text if text.trained else None

    def forward(
        self,
        indices: Tensor,
        residual: Tensor,
        text: Tensor,
        text_mask: Tensor,
        randomness: Randomness,
        *,
        loss: LossConfig,
        share: float,
        weight_sum: Tensor,
    ) -> Losses:
        """`DCAR.forward`; `text` is token ids (b, l) where the text encoder trains."""
        if self.text is not None:
            text = self.text(text, text_mask)
        return self.model(
            indices, residual, text, text_mask, randomness,
            loss=loss, share=share, weight_sum=weight_sum,
        )  # fmt: skip

    def compile(self) -> None:  # type: ignore[override]
        """Let torch.compile make kernels of each block and of the head."""
        for part in (*self.model.generator.blocks, self.model.head):
            if part is not None:
                part.compile()


def make_optimizer(learner: Learner, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW; no decay on norms, biases, embeddings and the head (1d-tokenizer, MAR)."""
    decayed, kept = [], []
    for name, parameter in learner.named_parameters():
        free = parameter.ndim < 2 or any(part in name for part in ("embed", "bias", "model.head."))
        if parameter.requires_grad:
            (kept if free else decayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": kept, "weight_decay": 0.0},
    ]
    betas = (config.betas[0], config.betas[1])
    return torch.optim.AdamW(groups, lr=config.lr, betas=betas, fused=True)


def moments(learner: Learner, optimizer: torch.optim.AdamW, *, step: int) -> dict[str, Tensor]:
    """AdamW's running averages by parameter, as they are after `step` steps.

    They are the optimizer's own tensors: what is read into them, it continues from.
    """
    found = {}
    for name, parameter in learner.named_parameters():
        if not parameter.requires_grad:
            continue
        state = optimizer.state[parameter]
        if not state:
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
        state["step"] = torch.tensor(float(step), device=parameter.device)
        found[f"exp_avg.{name}"] = state["exp_avg"]
        found[f"exp_avg_sq.{name}"] = state["exp_avg_sq"]
    return found
