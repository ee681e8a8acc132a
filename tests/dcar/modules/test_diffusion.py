import math

import pytest
import torch

from dcar.modules.diffusion import GaussianDiffusion, cosine_alphas, respaced_timesteps


def test_full_chain_has_the_cosine_schedule() -> None:
    alphas = cosine_alphas()
    angle = (500 / 1000 + 0.008) / 1.008 * math.pi / 2
    start = math.cos(0.008 / 1.008 * math.pi / 2) ** 2
    assert math.isclose(float(alphas[499]), math.cos(angle) ** 2 / start, rel_tol=1e-9)
    assert len(alphas) == 1000 and (alphas.diff() < 0).all()


def test_respacing_keeps_both_ends() -> None:
    assert respaced_timesteps(4).tolist() == [0, 333, 666, 999]
    assert respaced_timesteps(1).tolist() == [999]
    assert respaced_timesteps(1000).tolist() == list(range(1000))
    for steps in (0, 1001):
        with pytest.raises(ValueError, match=f"num_diffusion_steps {steps} is not in"):
            respaced_timesteps(steps)


def test_respaced_chain_has_the_same_signal_at_its_timesteps() -> None:
    chain = GaussianDiffusion(respaced_timesteps(20))
    assert torch.equal(chain.alphas_cumprod, cosine_alphas()[chain.timesteps])
    assert torch.allclose((1 - chain.betas).cumprod(0), chain.alphas_cumprod)


def test_perfect_epsilon_leaves_only_the_bound() -> None:
    chain = GaussianDiffusion()
    generator = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(5, 3, generator=generator) * 0.3 for _ in range(2))
    t = torch.tensor([1, 10, 100, 500, 900])
    x_t = chain.add_noise(x0, t, noise)
    smallest = torch.cat([noise, -torch.ones_like(noise)], dim=1)
    terms = chain.terms(smallest, x0, x_t, t, noise)
    assert torch.equal(terms.mse, torch.zeros(5))
    # With the right mean and the posterior's own variance the divergence is zero.
    assert torch.allclose(terms.vb, torch.zeros(5), atol=1e-4)


def test_the_bound_does_not_train_epsilon() -> None:
    chain = GaussianDiffusion()
    output = torch.zeros(2, 6, requires_grad=True)
    x0, noise = torch.ones(2, 3), torch.ones(2, 3) * 0.5
    t = torch.tensor([0, 700])
    chain.terms(output, x0, chain.add_noise(x0, t, noise), t, noise).vb.sum().backward()
    assert output.grad is not None
    assert torch.equal(output.grad[:, :3], torch.zeros(2, 3))
    assert (output.grad[:, 3:] != 0).any()
