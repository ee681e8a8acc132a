"""What a run of `dcht-train` would take: `plan=true` (`dcht.engine.plan`)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from dcht.engine.plan import Cluster, Cost, Work, cost_of, describe
from dcht.light.teacher import Teacher
from dcht.perceptual import LPIPS
from dcht.tokenizer import Tokenizer
from dcht.train.adversary import judge, learn
from dcht.train.discriminator import PatchDiscriminator
from dcht.train.losses import generator_loss
from dcht.train.start import start_light
from dcht.train_config import StageConfig, TrainConfig

IMAGENET = 1_281_167
"""Images of an epoch, where a stage is as long as some: ImageNet-1k's."""


def plan(config: TrainConfig, cluster: Cluster) -> str:
    """The plan of a run as text, stage after stage.

    Raises:
        UsageError: a batch that the GPUs cannot share.
    """
    texts = []
    for stage in config.plan():
        with FakeTensorMode():
            networks = build(config, stage.settings)
            image = cost(networks, config, stage.settings)
        counts = {name: sum(p.numel() for p in part.parameters())
                  for name, part in networks.named_children()}  # fmt: skip
        trained = {name: counts[name] for name in ("decoder", "discriminator") if name in counts}
        if isinstance(teacher := getattr(networks, "teacher", None), Teacher):
            trained["projections"] = sum(p.numel() for p in teacher.projections.parameters())
        trained |= {"encoder": counts["encoder"]} if stage.settings.train_encoder else {}
        trained |= {"codebook": counts["quantizer"]} if stage.settings.train_codebook else {}
        steps = stage.num_steps(IMAGENET, config.batch_size)
        work = Work(
            title=f"dcht-train, {stage.name}, {config.data.crop} px",
            parameters=trained,
            frozen=sum(counts.values()) - sum(trained.values()),
            image=image,
            image_recomputed=None,
            batch_size=config.batch_size,
            accumulate=1,
            steps=steps,
            shardable=False,
            notes=[f"of epochs           those of ImageNet-1k, {IMAGENET:,} images"],
        )
        texts.append(describe(work, cluster))
    return "\n\n".join(texts)


def build(config: TrainConfig, stage: StageConfig) -> nn.ModuleDict:
    """The networks of a step of a stage."""
    tokenizer, teacher, losses = Tokenizer(config.tokenizer), None, config.loss_of(stage)
    if config.light is not None:
        tokenizer, teacher = start_light(tokenizer, config.light)
    parts = dict(tokenizer.train().named_children())
    if teacher is not None:
        parts["teacher"] = teacher
    if losses.gan:
        parts["discriminator"] = PatchDiscriminator(losses.discriminator_channels)
    if losses.lpips:
        parts["lpips"] = LPIPS(losses.lpips_net.value)
    return nn.ModuleDict(parts)


def cost(
    networks: nn.ModuleDict, config: TrainConfig, stage: StageConfig, *, bf16: bool = True
) -> Cost:
    """What an image of a stage costs, by networks on fake tensors."""

    def step(count: int) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return loss(networks, config, stage, count)

    return cost_of(step, network=networks)


def loss(networks: nn.ModuleDict, config: TrainConfig, stage: StageConfig, count: int) -> Tensor:
    """The loss of a step on so many images of noise."""
    images = torch.randn(count, 3, config.data.crop, config.data.crop)
    with torch.set_grad_enabled(stage.train_encoder):
        z = networks["quantizer"].normalize(networks["encoder"](images))  # type: ignore[operator]
    total = torch.zeros(())
    if stage.discrete_prob:
        _, z, terms = networks["quantizer"].forward_train(z)  # type: ignore[operator]
        total = total + sum(terms.values()) if stage.train_codebook else total
    if config.light is None:
        output = networks["decoder"](z).float()
    else:
        output, taught, features = networks["teacher"](
            networks["decoder"], z, config.loss_of(stage)
        )
        total = total + sum(taught.values()) + sum(features.values())
    total = total + (output - images).square().mean()
    if "lpips" in networks:
        total = total + networks["lpips"](output, images).mean()
    if "discriminator" in networks:
        critic = networks["discriminator"]
        assert isinstance(critic, PatchDiscriminator)
        total = total + generator_loss(judge(critic, output))
        total = total + learn(critic, images, output.detach())["discriminator"]
    return total
