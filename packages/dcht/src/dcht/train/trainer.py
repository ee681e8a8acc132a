"""The state of a tokenizer's training, and its one step (paper, section 3.1).

What is evaluated and published is the EMA, and the next stage starts from it too: to run on and to
start a stage alone from the published folder are then the same, and what stage 3 freezes is bit for
bit what stage 2 published. # not in paper: EMA.

Everything sampled (order of images, crops, paths) is a function of (seed, step), so that resuming
needs the step and no generator's state. Of several ranks each has its slice of the batch, but
gradients, terms, indices and BatchNorm's statistics are those of the whole batch; and so weights
and codebook are the same bits on every rank.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import replace

import torch
from einops import rearrange
from torch import Tensor, nn

from dcht.engine.distributed import World
from dcht.engine.training import EMA, finite_or_stop, use_bf16, warmup_lr
from dcht.errors import UsageError
from dcht.light.teacher import Teacher
from dcht.tokenizer import Tokenizer
from dcht.train import adversary
from dcht.train.batch_norm import normalize_over_ranks
from dcht.train.codebook import UsageWindow, revive_dead_codes, start_codebook, trained_codes
from dcht.train.dataset import Crops, image_contents, split_inputs
from dcht.train.losses import ReconstructionLoss, weighted_sum
from dcht.train.publish import publish
from dcht.train.start import start_light, start_tokenizer
from dcht.train.validation import measure_residual_std, sample_latents
from dcht.train_config import LossConfig, StageConfig, TrainConfig


class Trainer:
    """Tokenizer, discriminator, their optimizers and the EMA, somewhere within the stages."""

    def __init__(self, config: TrainConfig, world: World) -> None:
        """Load what can be missing first: loss weights, then `init_from`, then the images.

        Raises:
            UsageError: one of them is missing, the stages use a codebook that is neither trained
                nor given, fixed codes are to be placed, or the batch cannot be split over the
                ranks.
        """
        if config.batch_size % world.size:
            raise UsageError(
                f"batch_size {config.batch_size} is not a multiple of the {world.size} ranks that "
                "share it"
            )
        self.config = config
        self.world = world
        self.device = device = world.device
        self.bf16 = use_bf16(config.bf16, device)
        self.plan = config.plan()
        torch.manual_seed(config.seed)
        # Channels last is 1.6 times faster on a CPU (measured), and what tensor cores want.
        layout = torch.channels_last
        losses = [config.loss_of(planned.settings) for planned in self.plan]
        perceptual = replace(config.loss, lpips=max(loss.lpips for loss in losses))
        self.losses = ReconstructionLoss(perceptual).to(device).to(memory_format=layout)
        discrete = [stage.settings for stage in self.plan if stage.settings.discrete_prob]
        tokenizer = start_tokenizer(
            config.tokenizer,
            config.init_from,
            needs_codebook=bool(discrete) and not discrete[0].train_codebook,
        )
        if config.codebook.kmeans_start or config.codebook.revive_every:
            trained_codes(tokenizer.require_quantizer())
        self.codebook_note = ""
        """What became of the codebook when the stage began, for whoever watches."""
        self.teacher: Teacher | None = None
        """Of a light decoder, which then is the tokenizer's decoder here."""
        if config.light is not None:
            tokenizer, teacher = start_light(tokenizer, config.light, init_from=config.init_from)
            self.teacher = teacher.to(device).to(memory_format=layout)
        self.tokenizer = tokenizer.to(device).to(memory_format=layout)
        discriminator = adversary.start_discriminator(config.loss)
        self.discriminator = discriminator.to(device).to(memory_format=layout)
        for network in (self.tokenizer, self.discriminator):
            normalize_over_ranks(network, world)
        self.discriminator_optimizer = self._adam(list(self.discriminator.parameters()))
        images, held_out, self.left_out = split_inputs(config.data, out=config.out)
        self.crops = Crops(images, config.data, cache=config.data.cache)
        self.validation = Crops(held_out, config.data, cache=False)
        for crops in (self.crops, self.validation):
            crops.require_readable()
        self.contents = world.on_main(lambda: image_contents([*images, *held_out]))
        self.step = 0
        self.stage_index, self.stage_step = 0, 0
        self.continues = False

    @property
    def stage_name(self) -> str:
        """The current stage."""
        return self.plan[self.stage_index].name

    @property
    def stage(self) -> StageConfig:
        """The current stage's settings."""
        return self.plan[self.stage_index].settings

    @property
    def loss(self) -> LossConfig:
        """The current stage's losses."""
        return self.config.loss_of(self.stage)

    @property
    def stage_steps(self) -> int:
        """The current stage's length."""
        return self.plan[self.stage_index].num_steps(len(self.crops), self.config.batch_size)

    def trainable(self) -> dict[str, nn.Module]:
        """The parts of the tokenizer that this stage trains."""
        parts: dict[str, nn.Module] = {"decoder": self.tokenizer.decoder}
        if self.teacher is not None:
            parts["projections"] = self.teacher.projections
        if self.stage.train_encoder:
            parts["encoder"] = self.tokenizer.encoder
        quantizer = self.tokenizer.quantizer
        if self.stage.train_codebook and quantizer is not None and quantizer.codebook is not None:
            parts["codebook"] = quantizer
        return parts

    def begin_stage(self) -> None:
        """Begin a stage, unless `dcht.train.resume` has, in the middle of it."""
        self.codebook_note = ""
        if self.continues:
            self.continues = False
            return
        if self.stage.train_codebook and self.config.codebook.kmeans_start and self.world.main:
            self.codebook_note = start_codebook(
                self.tokenizer.require_quantizer(), self._sample_latents, self._generator("k-means")
            )
        self.ready_stage()

    def ready_stage(self) -> None:
        """Freeze and thaw; fresh optimizer, EMA and window."""
        self.tokenizer.requires_grad_(False).eval()
        for network in (self.tokenizer, self.discriminator, self.teacher):
            if network is not None:
                self.world.align(network)
        parts = self.trainable().values()
        for part in parts:
            part.requires_grad_(True).train()
        self.optimizer = self._adam([p for part in parts for p in part.parameters()])
        self.ema = EMA(self.tokenizer, self.config.optimizer.ema_decay)
        self.losses.config = self.loss
        codes = self.tokenizer.require_quantizer().size
        self.window = UsageWindow(codes, self.config.codebook.window)

    def _sample_latents(self, count: int) -> Tensor:
        self.tokenizer.eval()
        return sample_latents(self.tokenizer, self.crops, count, self.config.batch_size)

    def train_step(self, images: Tensor) -> dict[str, Tensor]:
        """One optimizer step on this rank's images (b, 3, H, W).

        Returns:
            The terms, unweighted, means over the images of all ranks.
        """
        z, latent, terms = self._latents(images)
        with self._autocast():
            if self.teacher is None:
                output, taught = self.tokenizer.decode(latent).float(), {}
            else:
                output, taught, features = self.teacher(self.tokenizer.decoder, latent, self.loss)
                terms |= features
            reconstruction = self.losses(output, images) | taught
            adversarial = self.loss.adversarial(self.step, self.stage_step)
            verdict = adversary.judge(self.discriminator, output) if adversarial else None
        if verdict is None:
            terms |= reconstruction
            weighted_sum(terms, self.loss).backward()
        else:
            last, loss = self.tokenizer.decoder.last_weight, self.loss
            terms |= adversary.backward(
                output, reconstruction, verdict, terms, last, config=loss, world=self.world
            )
        terms = self._over_ranks(terms)
        terms["grad_norm"] = self._update(self.optimizer, terms, images)
        self.ema.update(self.tokenizer)
        if verdict is not None:
            with self._autocast():
                learned = adversary.learn(self.discriminator, images, output.detach())
            learned["discriminator"].backward()
            terms |= self._over_ranks(learned)
            norm = self._update(self.discriminator_optimizer, terms, images)
            terms["grad_norm_discriminator"] = norm
        every = self.config.codebook.revive_every
        if self.stage.train_codebook and every and (self.stage_step + 1) % every == 0:
            self._revive(z)
        self.step += 1
        self.stage_step += 1
        return terms

    def _latents(self, images: Tensor) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """z, what the decoder gets (each image's z or z_q), both (b, c, h, w), codebook losses."""
        stage = self.stage
        with self._autocast(), torch.set_grad_enabled(stage.train_encoder):
            z = self.tokenizer.encode(images)
        if stage.discrete_prob == 0:
            return z, z, {}
        quantizer = self.tokenizer.require_quantizer()
        terms = {}
        if stage.train_encoder or stage.train_codebook:
            indices, z_q, terms = quantizer.forward_train(z)
        else:
            indices, z_q = quantizer(z)
        self.window.add(self.world.gather(indices))
        num_images = len(images) * self.world.size
        variates = torch.rand(num_images, generator=self._generator("paths"))
        ours = variates.chunk(self.world.size)[self.world.rank]
        discrete = rearrange(ours < stage.discrete_prob, "b -> b 1 1 1").to(z.device)
        return z, torch.where(discrete, z_q, z), terms

    def _revive(self, z: Tensor) -> None:
        codebook = trained_codes(self.tokenizer.require_quantizer())
        latents = rearrange(self.world.gather(z.detach()), "b c h w -> (b h w) c")
        counts, variates = self.window.counts(), self._generator("revival")
        revive_dead_codes(codebook, latents, counts, self.optimizer, variates)

    def _over_ranks(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """The terms' means over ranks, detached; the same everywhere, so that all agree on them."""
        values = torch.stack([value.detach() for value in terms.values()])
        means = self.world.sum(values) / self.world.size
        return dict(zip(terms, means, strict=True))

    def _update(
        self, optimizer: torch.optim.Optimizer, terms: dict[str, Tensor], images: Tensor
    ) -> Tensor:
        """One clipped step, unless a term or the gradient is not finite; returns its norm."""
        (group,) = optimizer.param_groups
        self.world.average_gradients(group["params"])
        norm = nn.utils.clip_grad_norm_(group["params"], self.config.optimizer.grad_clip)
        checked = terms | {"grad_norm": norm}
        batch = {"images": images}
        finite_or_stop(checked, batch, self.config.out, self.step, world=self.world)
        settings = self.config.optimizer
        group["lr"] = warmup_lr(
            self.stage_step,
            base=settings.lr,
            warmup_steps=settings.warmup_steps,
            total_steps=self.stage_steps,
            final=settings.final_lr or 0.0,
            shape="constant" if settings.final_lr is None else "cosine",
        )
        optimizer.step()
        # Not kept until the next step: saving, validation and publishing come in between.
        optimizer.zero_grad(set_to_none=True)
        return norm

    def _adam(self, parameters: list[nn.Parameter]) -> torch.optim.Adam:
        first, second = self.config.optimizer.betas
        lr = self.config.optimizer.lr
        return torch.optim.Adam(parameters, lr=lr, betas=(first, second), fused=True)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def _generator(self, purpose: str) -> torch.Generator:
        """Draws for one purpose at this step, on the CPU."""
        text = f"{self.config.seed} {purpose} {self.step}"
        digest = hashlib.sha256(text.encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:8], signed=True))

    def lengths(self, config: TrainConfig) -> list[int]:
        """Steps of each stage of `config` with this run's images."""
        return [stage.num_steps(len(self.crops), config.batch_size) for stage in config.plan()]

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
        stage, config = self.stage, self.config
        self.ema.copy_to(self.tokenizer)
        self.tokenizer.eval()
        if stage.train_encoder or stage.train_codebook:
            std = None
            if stage.discrete_prob and self.world.main:
                std = measure_residual_std(self.tokenizer, self.crops, config.batch_size)
            std = self.world.broadcast(std)
            self.tokenizer.config = replace(self.tokenizer.config, residual_std=std)
        if self.world.main:
            # A stage that was shortened ends where it stands.
            steps = [*self.lengths(config)[: self.stage_index], self.stage_step]
            ended = zip(self.plan, steps, strict=False)
            done = [f"{planned.name} ({count:,} steps)" for planned, count in ended]
            publish(self.tokenizer, config, num_images=len(self.crops), stages=done)
            if any(config.loss_of(planned.settings).gan for planned in self.plan):
                adversary.publish(self.discriminator, config.out)
        self.stage_index, self.stage_step = self.stage_index + 1, 0
