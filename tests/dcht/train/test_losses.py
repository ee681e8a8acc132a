import pytest
import torch

from dcht.errors import UsageError
from dcht.train.losses import ReconstructionLoss, discriminator_loss, generator_loss, weighted_sum
from dcht.train_config import LossConfig


def test_pixel_terms_of_a_known_error():
    images = torch.zeros(2, 3, 4, 4)
    terms = ReconstructionLoss(LossConfig(l1=2.0, lpips=0.0))(images + 0.5, images)
    assert {name: value.item() for name, value in terms.items()} == {"l2": 0.25, "l1": 0.5}
    assert weighted_sum(terms, LossConfig(l2=4.0, l1=2.0)).item() == pytest.approx(2.0)


def test_a_term_of_weight_zero_is_not_computed():
    images = torch.zeros(1, 3, 4, 4)
    loss = ReconstructionLoss(LossConfig(l2=1.0, l1=0.0, lpips=0.0))
    assert loss.lpips is None
    assert list(loss(images, images)) == ["l2"]


def test_missing_perceptual_weights_stop_before_training(tmp_path, monkeypatch):
    monkeypatch.delenv("DCHT_PERCEPTUAL_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UsageError, match=r"vgg16.*dcht\.perceptual.*loss\.lpips=0"):
        ReconstructionLoss(LossConfig())


def test_hinge_values():
    # Sure and right by more than the margin costs nothing; sure and wrong costs margin + logit.
    assert discriminator_loss(torch.tensor([2.0]), torch.tensor([-3.0])).item() == 0
    assert discriminator_loss(torch.tensor([0.0]), torch.tensor([0.0])).item() == 1
    assert discriminator_loss(torch.tensor([-2.0]), torch.tensor([3.0])).item() == 3.5
    assert generator_loss(torch.tensor([1.0, 3.0])).item() == -2
