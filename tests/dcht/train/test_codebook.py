import pytest
import torch
import torch.nn.functional as F

from dcht.modules.quantizer import VectorQuantizer
from dcht.train.codebook import (
    UsageWindow,
    is_new,
    nearest,
    revive_dead_codes,
    spherical_kmeans,
    start_codebook,
)


def draws() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_usage_of_known_indices():
    window = UsageWindow(codebook_size=8, size=100)
    window.add(torch.tensor([[0, 1], [2, 3]]))
    used, perplexity = window.usage()
    assert (used, perplexity) == (0.5, pytest.approx(4.0))
    window.add(torch.zeros(60, dtype=torch.int64))
    assert window.usage().used == 0.5
    assert window.usage().perplexity < 2


def test_the_window_forgets():
    window = UsageWindow(codebook_size=4, size=3)
    window.add(torch.tensor([0, 0, 1]))
    window.add(torch.tensor([2, 2]))
    assert window.indices.tolist() == [1, 2, 2]
    assert window.counts().tolist() == [0, 1, 2, 0]
    assert UsageWindow(codebook_size=4, size=3).usage() == (0, 1)


def test_kmeans_finds_separated_clusters():
    centers = F.normalize(torch.eye(6)[:4] + 0.01, dim=-1)
    noise = 0.02 * torch.randn(400, 6, generator=draws())
    latents = F.normalize(centers.repeat_interleave(100, dim=0) + noise, dim=-1)
    found = spherical_kmeans(latents, 4, draws())
    assert torch.allclose(found.norm(dim=-1), torch.ones(4))
    best = (found @ centers.T).amax(dim=0)
    # Lloyd's algorithm may merge two clusters; what it never does is leave a center unused.
    assert (best > 0.99).sum() >= 3
    assert len(nearest(latents, found).unique()) == 4


def test_kmeans_needs_a_latent_a_code():
    with pytest.raises(ValueError, match="k-means of 8 codes needs as many latents, got 3"):
        spherical_kmeans(F.normalize(torch.randn(3, 4), dim=-1), 8, draws())


def test_dead_codes_move_to_latents_and_lose_their_momentum():
    codebook = torch.nn.Parameter(torch.full((4, 3), 2.0))
    optimizer = torch.optim.Adam([codebook])
    codebook.sum().backward()
    optimizer.step()
    before = codebook.detach().clone()
    latents = F.normalize(torch.randn(5, 3, generator=draws()), dim=-1)
    counts = torch.tensor([5, 0, 1, 0])
    assert revive_dead_codes(codebook, latents, counts, optimizer, draws()) == 2
    alive = counts > 0
    assert torch.equal(codebook[alive], before[alive])
    length = before[alive].norm(dim=-1).mean()
    assert torch.allclose(codebook[~alive].norm(dim=-1), length)
    closest = (F.normalize(codebook[~alive], dim=-1) @ latents.T).amax(dim=-1)
    assert torch.allclose(closest, torch.ones(2))
    moments = optimizer.state[codebook]["exp_avg"]
    assert moments[~alive].abs().max() == 0
    assert moments[alive].abs().min() > 0
    assert revive_dead_codes(codebook, latents, torch.ones(4), optimizer, draws()) == 0


def test_fewer_latents_than_codes_place_as_many_codes():
    quantizer = VectorQuantizer(8, 4, commitment_weight=0.25)
    others = F.normalize(quantizer.codebook.detach()[3:], dim=-1)
    latents = torch.eye(4)[:3]
    said = start_codebook(quantizer, lambda count: latents, draws())
    assert said == "the codebook is new: k-means over 3 latents places 3 of its 8 codes"
    placed = quantizer.codebook.detach()[:3]
    assert sorted(placed.argmax(dim=1).tolist()) == [0, 1, 2]
    assert torch.allclose(placed @ placed.T, torch.eye(3), atol=1e-6)
    assert torch.allclose(quantizer.codebook[3:], others)
    assert not is_new(quantizer.codebook)


def test_a_codebook_that_was_trained_is_kept():
    quantizer = VectorQuantizer(8, 4, commitment_weight=0.25)
    assert is_new(quantizer.codebook)
    assert is_new(quantizer.half().codebook)  # as published
    with torch.no_grad():
        quantizer.float().codebook[5, 2] = 0.3
    before = quantizer.codebook.clone()
    said = start_codebook(quantizer, lambda count: torch.eye(4), draws())
    assert "kept" in said and "trained before" in said
    assert torch.equal(quantizer.codebook, before)
