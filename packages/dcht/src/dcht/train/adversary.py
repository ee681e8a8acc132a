"""The GAN's part in a step: what the decoder gets from the discriminator, and what that learns.

Both sides of the decoder's loss are differentiated down to its output and joined there, so that
each can be measured, and weighed against the other, at the price of one backward pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from dcht.checkpoint import load_strict
from dcht.engine.distributed import World
from dcht.errors import UsageError
from dcht.files import write_atomic
from dcht.train.discriminator import PatchDiscriminator
from dcht.train.losses import discriminator_loss, generator_loss, weighted_sum
from dcht.train_config import LossConfig

PUBLISHED = "discriminator.safetensors"
ADAPTIVE_EPS = 1e-4
ADAPTIVE_MAX = 1e4
"""Both of VQGAN's adaptive weight (Esser et al. 2021, equation 7 and its code)."""


def start_discriminator(config: LossConfig) -> PatchDiscriminator:
    """A discriminator with random weights, or with those that an earlier run left.

    Raises:
        UsageError: `discriminator_from` is no such file.
        CheckpointError: it is of another width.
    """
    discriminator = PatchDiscriminator(config.discriminator_channels)
    if config.discriminator_from is not None:
        path = Path(config.discriminator_from)
        path = path / PUBLISHED if path.is_dir() else path
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UsageError(
                f"loss.discriminator_from={path} cannot be read ({error}); expected the folder of "
                f"a run with loss.gan > 0, or its {PUBLISHED}"
            ) from None
        load_strict(discriminator, tensors, str(path))
    return discriminator


def publish(discriminator: PatchDiscriminator, folder: str | Path) -> None:
    """Write `discriminator.safetensors`, from which another run goes on; whole or not at all."""
    tensors = {key: value.contiguous() for key, value in discriminator.state_dict().items()}
    write_atomic(Path(folder) / PUBLISHED, save(tensors))


def judge(discriminator: PatchDiscriminator, output: Tensor) -> Tensor:
    """The logits, in fp32, of what the decoder made; nothing of the discriminator learns by it."""
    discriminator.requires_grad_(False)
    logits = discriminator(output).float()
    discriminator.requires_grad_(True)
    return logits


def backward(
    output: Tensor,
    reconstruction: Mapping[str, Tensor],
    fake_logits: Tensor,
    codebook: Mapping[str, Tensor],
    last_layer: Tensor,
    *,
    config: LossConfig,
    world: World,
) -> dict[str, Tensor]:
    """The backward pass of a step in which the discriminator has judged.

    With `gan_adaptive` the GAN's weight is multiplied by the ratio of the gradients' norms at the
    decoder's last layer, reconstruction's over the GAN's, as VQGAN has it.

    Args:
        output: what the decoder made, (b, 3, H, W), with its graph.
        reconstruction: the unweighted terms that hold it against the images; may be none.
        fake_logits: what `judge` gave for `output`.
        codebook: the unweighted terms that do not pass through `output`; may be none.
        last_layer: the weights of the decoder's last layer.
        config: the weights.
        world: all ranks measure the norms of their mean gradient.

    Returns:
        All terms, unweighted, and for the log: `gan_weight`, as applied;
        `grad_norm_reconstruction` and `grad_norm_gan`, at the last layer, as applied.
    """
    gan = generator_loss(fake_logits)
    (theirs,) = torch.autograd.grad(config.gan * gan, output)
    ours = torch.zeros_like(output)
    if reconstruction:
        (ours,) = torch.autograd.grad(weighted_sum(reconstruction, config), output)

    def at_last_layer(gradient: Tensor) -> Tensor:
        (found,) = torch.autograd.grad(output, last_layer, gradient, retain_graph=True)
        return (world.sum(found) / world.size).float().norm()

    our_norm, their_norm = at_last_layer(ours), at_last_layer(theirs)
    factor = torch.ones_like(our_norm)
    if config.gan_adaptive:
        # VQGAN's ratio has the norm of the unweighted GAN below the line.
        ratio = our_norm / (their_norm / config.gan + ADAPTIVE_EPS)
        factor = ratio.clamp(max=ADAPTIVE_MAX)
        theirs = factor * theirs
    roots: list[Tensor] = [output]
    gradients: list[Tensor | None] = [ours + theirs]
    if codebook:
        roots.append(weighted_sum(codebook, config))
        gradients.append(None)
    torch.autograd.backward(roots, gradients)
    return {
        **codebook,
        **reconstruction,
        "gan": gan,
        "gan_weight": config.gan * factor,
        "grad_norm_reconstruction": our_norm,
        "grad_norm_gan": factor * their_norm,
    }


def learn(discriminator: PatchDiscriminator, images: Tensor, output: Tensor) -> dict[str, Tensor]:
    """What the discriminator minimizes on images and output (b, 3, H, W), and its mean logits."""
    real, fake = (discriminator(pixels).float() for pixels in (images, output))
    return {
        "discriminator": discriminator_loss(real, fake),
        "logits_real": real.mean(),
        "logits_fake": fake.mean(),
    }
