import pytest
import torch
from torch import nn

from dcht import CheckpointError, UsageError
from dcht.engine.distributed import World
from dcht.train import adversary
from dcht.train.discriminator import PatchDiscriminator
from dcht.train.losses import generator_loss, weighted_sum
from dcht.train_config import LossConfig

ALONE = World(0, 1, torch.device("cpu"))


class Step:
    """A decoder of two layers, a codebook loss that does not pass its output, a discriminator."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.first, self.last = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 3, 3, padding=1)
        self.discriminator = PatchDiscriminator(4)
        self.images = torch.rand(2, 3, 32, 32) * 2 - 1
        self.features = torch.randn(2, 4, 32, 32)

    def terms(self) -> tuple[torch.Tensor, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        hidden = self.first(self.features)
        output = self.last(hidden)
        error = output - self.images
        reconstruction = {"l2": error.square().mean(), "l1": error.abs().mean()}
        return output, reconstruction, {"codebook": hidden.square().mean()}

    def gradients(self) -> list[torch.Tensor]:
        grads = [p.grad for layer in (self.first, self.last) for p in layer.parameters()]
        for layer in (self.first, self.last):
            layer.zero_grad()
        return [grad.clone() for grad in grads if grad is not None]

    def backward(self, config: LossConfig) -> dict[str, torch.Tensor]:
        output, reconstruction, codebook = self.terms()
        verdict = adversary.judge(self.discriminator, output)
        last = self.last.weight
        return adversary.backward(
            output, reconstruction, verdict, codebook, last, config=config, world=ALONE
        )


def test_joined_at_the_output_they_are_the_gradient_of_the_sum():
    step, config = Step(), LossConfig(l2=2.0, l1=0.5, gan=0.3, codebook=0.7)
    logged = step.backward(config)
    ours = step.gradients()
    output, reconstruction, codebook = step.terms()
    gan = generator_loss(step.discriminator(output))
    weighted_sum(reconstruction | codebook | {"gan": gan}, config).backward()
    for found, expected in zip(ours, step.gradients(), strict=True):
        torch.testing.assert_close(found, expected)
    assert logged["gan"].item() == pytest.approx(gan.item())
    assert logged["gan_weight"].item() == pytest.approx(0.3)
    # Judging taught the discriminator nothing, but it can learn.
    assert all(p.requires_grad for p in step.discriminator.parameters())


def test_the_norms_are_those_of_each_side_alone():
    step, config = Step(), LossConfig(l2=2.0, l1=0.5, gan=0.3)
    logged = step.backward(config)
    step.gradients()
    output, reconstruction, _ = step.terms()
    for name, loss in (
        ("reconstruction", weighted_sum(reconstruction, config)),
        ("gan", 0.3 * generator_loss(step.discriminator(output))),
    ):
        (alone,) = torch.autograd.grad(loss, step.last.weight, retain_graph=True)
        assert logged[f"grad_norm_{name}"].item() == pytest.approx(alone.norm().item(), rel=1e-4)


@pytest.mark.parametrize("enlarged", [1e-2, 1.0, 1e3])
def test_the_adaptive_gan_pulls_as_hard_as_it_is_told_whatever_it_says(enlarged):
    step = Step()
    with torch.no_grad():
        step.discriminator.layers[-1].weight.mul_(enlarged)  # type: ignore[union-attr, operator]
    logged = step.backward(LossConfig(l1=1.0, gan=0.25, gan_adaptive=True))
    ratio = logged["grad_norm_gan"] / logged["grad_norm_reconstruction"]
    assert ratio.item() == pytest.approx(0.25, rel=0.1 if enlarged < 1 else 1e-2)  # VQGAN's epsilon
    assert logged["gan"].abs() > 0


def test_it_learns_and_says_what_it_thinks():
    step = Step()
    told = adversary.learn(step.discriminator, step.images, step.terms()[0].detach())
    hinge = (1 - step.discriminator(step.images)).relu().mean()
    assert told["logits_real"].item() == pytest.approx(
        step.discriminator(step.images).mean().item()
    )
    assert told["discriminator"].item() > 0.5 * hinge.item() - 1e-6


def test_a_published_discriminator_goes_on_in_another_run(tmp_path):
    torch.manual_seed(0)
    learned = PatchDiscriminator(4).to(memory_format=torch.channels_last)
    adversary.publish(learned, tmp_path)
    for place in (tmp_path, tmp_path / "discriminator.safetensors"):
        config = LossConfig(discriminator_channels=4, discriminator_from=str(place))
        started = adversary.start_discriminator(config).state_dict()
        assert all(torch.equal(value, started[key]) for key, value in learned.state_dict().items())
    with pytest.raises(CheckpointError):
        adversary.start_discriminator(
            LossConfig(discriminator_channels=8, discriminator_from=str(tmp_path))
        )
    for nothing in (tmp_path / "no", tmp_path / "no.safetensors"):
        with pytest.raises(UsageError, match=r"discriminator_from=.*cannot be read"):
            adversary.start_discriminator(LossConfig(discriminator_from=str(nothing)))


def test_a_gan_has_something_to_be_weighed_against():
    with pytest.raises(UsageError, match="are all 0"):
        LossConfig(l2=0, l1=0, lpips=0, gan_adaptive=True)
