"""Three-stage adaptation training of DC-HT (paper, section 3.1 and Table 7).

A stage is a length, a probability of the discrete path, and what trains; it starts from a tokenizer
and publishes one. The weights that are evaluated and published are the EMA; the next stage starts
from these too, so running on and starting a stage alone from the published folder are the same, and
what stage 3 freezes is bit for bit what stage 2 published. # not in paper: EMA.

Randomness (order of images, crops, paths) is a function of (seed, step): resuming needs the step.
"""

from __future__ import annotations

import copy
import hashlib
import json
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from dcht.checkpoint import to_dict, write_atomic
from dcht.codebook import UsageWindow, revive_dead_codes, spherical_kmeans
from dcht.command import INTERRUPTED, OK, pick_device
from dcht.crops import Crops, load_batches, split_files, to_images
from dcht.discriminator import PatchDiscriminator
from dcht.errors import UsageError
from dcht.losses import ReconstructionLoss, discriminator_loss, generator_loss, weighted_sum
from dcht.tokenizer import Tokenizer
from dcht.train_config import StageConfig, TrainConfig
from dcht.training import (
    EMA,
    GracefulStop,
    RunLog,
    finite_or_stop,
    load_resume,
    save_resume,
    warmup_lr,
)
from dcht.validation import measure_residual_std, sample_latents, validate

LATENTS_PER_CODE = 32
"""How many latents k-means sees for each code."""


def train(config: TrainConfig) -> int:
    """Run or continue `config.stages` in `config.out`; `tokenizer/` there is the result.

    Returns:
        0 when all stages are done, 130 when a signal stopped it (the same command continues).

    Raises:
        UsageError: perceptual weights or images missing, or other settings than the run began with.
        NonFiniteLossError: a loss was not finite; weights are as of the last resume file.
    """
    out = Path(config.out)
    resume = load_resume(out)
    check_settings(config, out, resuming=resume is not None)
    trainer = Trainer(config, pick_device(config.device))
    if resume is not None:
        trainer.load_state(*resume)
    log = RunLog(out, first_step=trainer.step)
    try:
        with GracefulStop() as stop:
            while trainer.stage_index < len(config.stages):
                if not run_stage(trainer, log, stop):
                    log.line(f"stopped at step {trainer.step}; the same command continues")
                    return INTERRUPTED
        log.line(f"done: {out / 'tokenizer'}")
        return OK
    finally:
        log.close()


def run_stage(trainer: Trainer, log: RunLog, stop: GracefulStop) -> bool:
    """Train the current stage to its end and publish; False if `stop` came first."""
    config, stage, out = trainer.config, trainer.stage, Path(trainer.config.out)
    total = stage.num_steps(len(trainer.crops), config.batch_size)
    trainer.begin_stage()
    for line in trainer.describe(total):
        log.line(line)
    batches = load_batches(
        trainer.crops,
        batch_size=config.batch_size,
        seed=config.seed,
        first_step=trainer.step,
        num_steps=max(0, total - trainer.stage_step),
    )
    sums: dict[str, float] = defaultdict(float)
    since, count = time.monotonic(), 0
    for batch in batches:
        for name, value in trainer.train_step(to_images(batch, trainer.device), total).items():
            sums[name] += value
        count += 1
        last = trainer.stage_step == total
        if trainer.step % config.log_every == 0 or last:
            row = {name: value / count for name, value in sums.items()}
            row["images_per_second"] = count * config.batch_size / (time.monotonic() - since)
            row |= trainer.usage()
            log.scalars(trainer.step, row)
            shown = "  ".join(f"{name} {value:.4g}" for name, value in row.items())
            log.line(f"{trainer.stage_name} {trainer.stage_step}/{total}  {shown}")
            sums.clear()
            since, count = time.monotonic(), 0
        if trainer.step % config.eval_every == 0 or last:
            result = validate(trainer.averaged(), trainer.validation, config.batch_size)
            log.scalars(trainer.step, result.scalars())
            log.picture(trainer.step, "reconstruction", result.picture)
            log.line(
                "validation  " + "  ".join(f"{k} {v:.2f}" for k, v in result.scalars().items())
            )
            since = time.monotonic()
        if stop.requested or (trainer.step % config.save_every == 0 and not last):
            save_resume(out, trainer.step, trainer.state())
        if stop.requested:
            return False
    trainer.finish_stage()
    save_resume(out, trainer.step, trainer.state())
    return True


class Trainer:
    """The state of a run and its one step."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        """Load what can be missing first (loss weights, tokenizer), the images last."""
        self.config = config
        self.device = device
        self.bf16 = config.bf16 and device.type != "cpu"
        torch.manual_seed(config.seed)
        # Channels last: 1.6 times faster on a CPU (measured), and what tensor cores want.
        layout = torch.channels_last
        self.losses = ReconstructionLoss(config.loss).to(device).to(memory_format=layout)
        self.tokenizer = start_tokenizer(config).to(device).to(memory_format=layout)
        self.discriminator = PatchDiscriminator(config.loss.discriminator_channels).to(device)
        self.discriminator_optimizer = self._adam(list(self.discriminator.parameters()))
        files, held_out = split_files(config.data)
        self.crops = Crops(files, config.data, cache=config.data.cache)
        self.validation = Crops(held_out, config.data, cache=False)
        self.step = 0
        self.stage_index, self.stage_step = 0, 0
        self._begun: dict[str, Any] | None = None

    @property
    def stage_name(self) -> str:
        """The current stage."""
        return self.config.stages[self.stage_index].value

    @property
    def stage(self) -> StageConfig:
        """The current stage's settings."""
        return self.config.stage(self.config.stages[self.stage_index])

    def trainable(self) -> dict[str, nn.Module]:
        """The parts of the tokenizer that this stage trains."""
        parts: dict[str, nn.Module] = {"decoder": self.tokenizer.decoder}
        if self.stage.train_encoder:
            parts["encoder"] = self.tokenizer.encoder
        if self.stage.train_codebook:
            parts["codebook"] = self.tokenizer.require_quantizer()
        return parts

    def _adam(self, parameters: list[nn.Parameter]) -> torch.optim.Adam:
        optimizer = self.config.optimizer
        betas = (optimizer.betas[0], optimizer.betas[1])
        return torch.optim.Adam(parameters, lr=optimizer.lr, betas=betas, fused=True)

    def begin_stage(self) -> None:
        """Freeze and thaw, with a fresh optimiser and EMA, or those of the resume file."""
        self.tokenizer.requires_grad_(False)
        self.tokenizer.eval()
        if self.stage.train_codebook and self.config.codebook.kmeans_start and self._begun is None:
            self._start_codebook()
        for part in self.trainable().values():
            part.requires_grad_(True)
            part.train()
        self.parameters = [p for part in self.trainable().values() for p in part.parameters()]
        self.optimizer = self._adam(self.parameters)
        self.ema = EMA(self.tokenizer, self.config.optimizer.ema_decay)
        quantizer = self.tokenizer.require_quantizer()
        self.window = UsageWindow(len(quantizer.codebook), self.config.codebook.window)
        if self._begun is not None:
            self.optimizer.load_state_dict(self._begun["optimizer"])
            self.ema.load_state_dict(self._begun["ema"])
            self.window.add(self._begun["window"])
            self._begun = None

    def _start_codebook(self) -> None:
        codebook = self.tokenizer.require_quantizer().codebook
        latents = sample_latents(
            self.tokenizer, self.crops, LATENTS_PER_CODE * len(codebook), self.config.batch_size
        )
        centres = spherical_kmeans(latents, len(codebook), self._generator("k-means"))
        codebook.data.copy_(centres)

    def _generator(self, purpose: str) -> torch.Generator:
        """Draws for one purpose at the current step, on the CPU."""
        text = f"{self.config.seed} {purpose} {self.step}".encode()
        seed = int.from_bytes(hashlib.sha256(text).digest()[:8])
        return torch.Generator().manual_seed(seed % 2**63)

    def train_step(self, images: Tensor, total: int) -> dict[str, float]:
        """One optimiser step on images (b, 3, H, W); returns the unweighted terms."""
        rate = self._learning_rate(total)
        adversarial = self.config.loss.gan > 0 and self.step >= self.config.loss.gan_start
        latent, terms = self._latents(images)
        with self._autocast():
            output = self.tokenizer.decode(latent).float()
            terms |= self.losses(output, images)
            if adversarial:
                self.discriminator.requires_grad_(False)  # judges here, learns below
                terms["gan"] = generator_loss(self.discriminator(output).float())
                self.discriminator.requires_grad_(True)
        total_loss = weighted_sum(terms, self.config.loss)
        norm = self._update(self.optimizer, self.parameters, total_loss, rate, terms, images)
        self.ema.update(self.tokenizer)
        terms["grad_norm"] = norm
        if adversarial:
            with self._autocast():
                real, fake = (self.discriminator(x).float() for x in (images, output.detach()))
            terms["discriminator"] = discriminator_loss(real, fake)
            self._update(
                self.discriminator_optimizer,
                list(self.discriminator.parameters()),
                terms["discriminator"],
                rate,
                terms,
                images,
            )
        self.step += 1
        self.stage_step += 1
        return {"lr": rate} | {name: value.item() for name, value in terms.items()}

    def _latents(self, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The decoder's input (b, c, h, w), each image's Z or Z_q, and the codebook's losses."""
        stage = self.stage
        with self._autocast(), torch.set_grad_enabled(stage.train_encoder):
            z = self.tokenizer.encode(images)
        if stage.discrete_prob == 0:
            return z, {}
        quantizer = self.tokenizer.require_quantizer()
        terms = {}
        if stage.train_encoder or stage.train_codebook:
            found = quantizer.forward_train(z)
            terms = {"codebook": found.codebook_loss, "commitment": found.commitment_loss}
        else:
            found = quantizer(z)
        self.window.add(found.indices)
        every = self.config.codebook.revive_every
        if stage.train_codebook and every and (self.stage_step + 1) % every == 0:
            flat = rearrange(z.detach().float(), "b c h w -> (b h w) c")
            revive_dead_codes(
                quantizer.codebook,
                flat,
                self.window.counts(),
                self.optimizer,
                self._generator("revival"),
            )
        draws = torch.rand(len(images), generator=self._generator("paths"))
        discrete = rearrange(draws < stage.discrete_prob, "b -> b 1 1 1").to(z.device)
        return torch.where(discrete, found.z_q, z.float()), terms

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _learning_rate(self, total: int) -> float:
        optimizer = self.config.optimizer
        return warmup_lr(
            self.stage_step,
            base=optimizer.lr,
            warmup_steps=optimizer.warmup_steps,
            total_steps=total,
            final=optimizer.final_lr or 0.0,
            shape="constant" if optimizer.final_lr is None else "cosine",
        )

    def _update(
        self,
        optimizer: torch.optim.Optimizer,
        parameters: list[nn.Parameter],
        loss: Tensor,
        rate: float,
        terms: dict[str, Tensor],
        images: Tensor,
    ) -> Tensor:
        """One clipped step, unless a term or the gradient is not finite; returns its norm."""
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(parameters, self.config.optimizer.grad_clip)
        finite_or_stop(terms | {"grad_norm": norm}, {"images": images}, self.config.out, self.step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        return norm

    def usage(self) -> dict[str, float]:
        """Codebook usage for the log; empty in a stage without the discrete path."""
        if not len(self.window.indices):
            return {}
        used, perplexity = self.window.usage()
        return {"codebook_used": used, "perplexity": perplexity}

    def averaged(self) -> Tokenizer:
        """A copy of the tokenizer with the EMA weights, in eval mode."""
        tokenizer = copy.deepcopy(self.tokenizer)
        self.ema.copy_to(tokenizer)
        return tokenizer.eval()

    def finish_stage(self) -> None:
        """Take over the EMA, measure the residual if what makes it has moved, and publish."""
        stage = self.stage
        self.ema.copy_to(self.tokenizer)
        self.tokenizer.eval()
        if stage.train_encoder or stage.train_codebook:
            std = None
            if stage.discrete_prob:
                std = measure_residual_std(self.tokenizer, self.crops, self.config.batch_size)
            self.tokenizer.config = replace(self.tokenizer.config, residual_std=std)
        dtype = getattr(torch, self.config.publish_dtype.value)
        self.tokenizer.save_pretrained(Path(self.config.out) / "tokenizer", dtype=dtype)
        self.stage_index, self.stage_step = self.stage_index + 1, 0

    def state(self) -> dict[str, Any]:
        """All that resuming needs, for `load_state`."""
        return {
            "stage_index": self.stage_index,
            "stage_step": self.stage_step,
            "tokenizer": self.tokenizer.state_dict(),
            "residual_std": self.tokenizer.config.residual_std,
            "discriminator": self.discriminator.state_dict(),
            "discriminator_optimizer": self.discriminator_optimizer.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "ema": self.ema.state_dict(),
            "window": self.window.indices,
        }

    def load_state(self, step: int, state: dict[str, Any]) -> None:
        """Continue where `state()` was taken."""
        self.step = step
        self.stage_index, self.stage_step = state["stage_index"], state["stage_step"]
        self.tokenizer.load_state_dict(state["tokenizer"])
        self.tokenizer.config = replace(self.tokenizer.config, residual_std=state["residual_std"])
        self.discriminator.load_state_dict(state["discriminator"])
        self.discriminator_optimizer.load_state_dict(state["discriminator_optimizer"])
        # At the end of a stage nothing of its optimiser is carried on.
        self._begun = state if self.stage_step else None

    def describe(self, total: int) -> list[str]:
        """What the stage is about to do, for whoever watches."""
        stage, loss = self.stage, self.config.loss
        parts = [
            f"{name} ({sum(p.numel() for p in part.parameters()) / 1e6:.2f} M)"
            for name, part in self.trainable().items()
        ]
        weights = {name: getattr(loss, name) for name in ("l2", "l1", "lpips", "gan")}
        if stage.train_codebook:
            weights |= {"codebook": loss.codebook, "commitment": loss.commitment}
        weighted = ", ".join(f"{name} {value:g}" for name, value in weights.items())
        return [
            f"{self.stage_name}: steps {self.stage_step} to {total} of {self.config.batch_size} "
            f"images out of {len(self.crops)}, {stage.discrete_prob:.0%} on the discrete path",
            f"  trains {', '.join(parts)}",
            f"  losses {weighted}; the discriminator comes in at step {loss.gan_start}",
            f"  on {self.device}, {'bf16 autocast' if self.bf16 else 'fp32'}",
        ]


def start_tokenizer(config: TrainConfig) -> Tokenizer:
    """Random weights, or those of `init_from`.

    A source without a codebook (a DC-AE) gives encoder and decoder; the codebook is random.

    Raises:
        UsageError: `init_from` has another layout than `tokenizer`.
    """
    tokenizer = Tokenizer(config.tokenizer)
    if config.init_from is None:
        return tokenizer
    source = Tokenizer.from_pretrained(config.init_from)
    ignored = {"residual_std": None, "commitment_weight": 0.0}
    if source.quantizer is None:
        ignored["codebook_size"] = None
    theirs, ours = (to_dict(replace(c, **ignored)) for c in (source.config, config.tokenizer))  # type: ignore[arg-type]
    if odd := [key for key in ours if ours[key] != theirs[key]]:
        raise UsageError(
            f"init_from={config.init_from} differs from the tokenizer that was asked for in "
            f"{', '.join(odd)}; choose its preset with tokenizer=NAME"
        )
    tokenizer.load_state_dict(source.state_dict(), strict=source.quantizer is not None)
    tokenizer.set_residual_std(source.config.residual_std)  # type: ignore[arg-type]
    return tokenizer


FREE_SETTINGS = {
    *("device", "log_every", "eval_every", "save_every", "cache", "workers", "steps", "epochs")
}
"""What may change when a run continues: nothing that a finished step depended on."""


def check_settings(config: TrainConfig, out: Path, *, resuming: bool) -> None:
    """Write the settings to `config.json`, or compare them with those that are there.

    Raises:
        UsageError: the run in `out` began with other settings; the message names them.
    """
    path = out / "config.json"
    now = to_dict(config)
    if resuming and (odd := sorted(_differences(json.loads(path.read_text()), now))):
        raise UsageError(
            f"{out} holds a run with other settings ({', '.join(odd)}); choose another out=, or "
            "start from its result with init_from="
        )
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(path, json.dumps(now, indent=1).encode() + b"\n")


def _differences(before: Any, now: Any, name: str = "") -> set[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        names = (before.keys() | now.keys()) - FREE_SETTINGS
        return set().union(
            *(_differences(before.get(n), now.get(n), f"{name}.{n}".strip(".")) for n in names)
        )
    return set() if before == now else {name}
