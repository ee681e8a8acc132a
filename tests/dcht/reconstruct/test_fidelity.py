"""Whether a tokenizer can give images back: what its card says, and the word that follows."""

from pathlib import Path

import pytest
import torch

from dcht import Tokenizer
from dcht.cli import build_parser
from dcht.images import scale, to_bytes, to_pil
from dcht.reconstruct.fidelity import infidelity, mean_psnr


def test_psnr_is_that_of_what_comes_back(tokenizer: Tokenizer, monkeypatch) -> None:
    """Ten levels of 255 off everywhere is 20 log10(25.5) dB; the mean is over images."""
    levels = torch.tensor([100, 200], dtype=torch.uint8)[:, None, None, None]
    images = scale(levels.expand(2, 3, 32, 32))
    monkeypatch.setattr(tokenizer, "reconstruct", lambda x: x + torch.tensor([10, 1])
                        [:, None, None, None] / 127.5)  # fmt: skip
    assert to_bytes(to_pil(images[0])).unique().tolist() == [100]
    expected = (28.1308 + 48.1308) / 2
    assert mean_psnr(tokenizer, images) == pytest.approx(expected, abs=1e-3)


def test_a_card_promises_and_encode_says_where_it_does_not_hold(
    saved_tokenizer: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Tokenizer.from_pretrained().card_psnr == 27.9
    assert Tokenizer.from_pretrained(saved_tokenizer).card_psnr is None
    command = ["encode", str(images), "--size", "64", "--ckpt", str(saved_tokenizer), "--out"]
    for number, (card, said) in enumerate(
        (("", False), ("PSNR 99.0 dB", True), ("PSNR 3 dB", False))
    ):
        if card:
            (saved_tokenizer / "README.md").write_text(f"| held-out images | {card}, and so on |")
        arguments = build_parser().parse_args([*command, str(tmp_path / str(number))])
        assert arguments.function(arguments) == 0
        err = capsys.readouterr().err
        assert ("note: the tokenizer gives this back at" in err) is said, card
        assert ("come back at 99.0 dB (its card)" in err) is said, card


def test_a_margin_keeps_half_of_the_world_quiet(tokenizer: Tokenizer) -> None:
    tokenizer.card_psnr = 28.0
    assert infidelity(tokenizer, 26.0) == infidelity(tokenizer, None) == ""
    assert "at 25.9 dB" in infidelity(tokenizer, 25.9)
