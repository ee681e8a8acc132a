"""The paper's model at full size, once, on a CPU: 671 M, the full tokenizer, T5-base's layout.

    uv run --all-packages pytest -m slow -s tests/test_full_size.py

Weights are random, so the image is noise and the loss that of guessing; what is shown is that it
fits and runs, and that a training step does. Each is this file run by a process of its own: what it
took at most is measured, and the tests after it have the memory again.
"""

import math
import resource
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import tokenizers
import torch
from PIL import Image
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel
from transformers.models.t5.modeling_t5 import T5Stack

from dcar import DCAR, PRESETS, TextToImage
from dcar.config import JointTextConfig, SamplingConfig, TextConfig
from dcar.modules.text import TextEncoder, word_tokenizer
from dcar.train.trainer import Trainer
from dcar.train_config import DataConfig, DataKind, TrainConfig
from dcht import PRESETS as TOKENIZERS
from dcht import Tokenizer
from dcht.engine.distributed import World
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings


def random_t5_base(words: tokenizers.Tokenizer) -> TextEncoder:
    """T5-base's encoder (109.63 M) with random weights, behind a tokenizer of a few words."""
    config = T5Config(
        vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12
    )
    encoder = T5EncoderModel(config).encoder
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(109.63, abs=5e-3)
    return TextEncoder(encoder, words, length=120, sees_mask=True, trained=False)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> None:
    """This file as a program; what it prints is shown."""
    with capsys.disabled():
        subprocess.run([sys.executable, __file__, *words], check=True)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_one_image_at_full_size(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "image")


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_one_training_step_at_full_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "step", str(tmp_path))


def one_image() -> None:
    start = time.perf_counter()
    tokenizer = Tokenizer(TOKENIZERS["f32c32"])
    model = DCAR(PRESETS["dcar_671m"])
    assert model.head is not None
    millions = [sum(p.numel() for p in part.parameters()) / 1e6 for part in (model, tokenizer)]
    # Fresh output layers are zero; a little noise makes the logits differ.
    torch.nn.init.normal_(model.generator.to_logits.weight, std=0.02)
    text = random_t5_base(word_tokenizer(["a red heart"], JointTextConfig()))
    pipe = TextToImage(model, text, tokenizer, sampling=SamplingConfig(), size=(256, 256))
    built = time.perf_counter()
    result = pipe("a red heart", seed=1)
    sampled = time.perf_counter()
    (image,) = result.images
    assert image.size == (256, 256)
    assert result.indices.shape == (1, 8, 8)
    assert 0 <= int(result.indices.min()) <= int(result.indices.max()) < 16384
    with torch.inference_mode():
        latents = tokenizer.tokenize(torch.rand(1, 3, 256, 256) * 2 - 1)
        restored = tokenizer.lookup(latents.indices) + latents.residual
    assert torch.allclose(restored, latents.z_q + latents.residual, atol=1e-6)
    assert latents.indices.shape == (1, 8, 8)
    print(
        f"\ngenerator and head {millions[0]:.2f} M, tokenizer {millions[1]:.2f} M; "
        f"built in {built - start:.0f} s, one 256 x 256 image (12 steps, 20 of the head) in "
        f"{sampled - built:.0f} s, peak memory {peak():.1f} GiB"
    )


def one_training_step(folder: Path) -> None:
    """Batch 1, activation checkpointing, AdamW and EMA in fp32: within 20 GiB."""
    start = time.perf_counter()
    config = training_at_full_size(folder)
    trainer = Trainer(config, World(0, 1, torch.device("cpu")))
    built = time.perf_counter()
    before = trainer.learner.model.generator.to_logits.weight.detach().clone()
    result = trainer.train_step()
    stepped = time.perf_counter()
    assert result.scalars["cross_entropy"] == pytest.approx(math.log(16384), rel=1e-3)
    assert not torch.equal(trainer.learner.model.generator.to_logits.weight, before)
    print(
        f"\none training step of 671 M at batch 1: built in {built - start:.0f} s, step in "
        f"{stepped - built:.0f} s, peak memory {peak():.1f} GiB"
    )
    assert peak() < 20


def peak() -> float:
    """GiB that this process took at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def training_at_full_size(folder: Path) -> TrainConfig:
    """A run of the paper's model on one random image, with everything it needs in `folder`."""
    tokenizer = Tokenizer(TOKENIZERS["f32c32"]).eval()
    tokenizer.save_pretrained(folder / "tokenizer")
    text = random_t5_base(word_tokenizer(["a red heart"], JointTextConfig()))
    assert isinstance(text.encoder, T5Stack)
    T5EncoderModel(text.encoder.config).save_pretrained(folder / "t5")
    PreTrainedTokenizerFast(
        tokenizer_object=text.tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder / "t5")
    (folder / "pictures").mkdir()
    noise = torch.randint(256, (256, 256, 3), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(folder / "pictures" / "heart.png")
    (folder / "pictures" / "heart.txt").write_text("a red heart\n")
    saved = Tokenizer.from_pretrained(folder / "tokenizer")
    settings = EncodeSettings(size=(256, 256), batch_size=1)
    encode_images(saved, folder / "pictures", folder / "latents", settings)
    return TrainConfig(
        model=replace(PRESETS["dcar_671m"], text=TextConfig(name=str(folder / "t5"))),
        tokenizer=TOKENIZERS["f32c32"],
        tokenizer_ckpt=str(folder / "tokenizer"),
        data=DataConfig(kind=DataKind.latents, root=str(folder / "latents")),
        init_from="scratch",
        out=str(folder / "run"),
        batch_size=1,
        activation_checkpointing=True,
        device="cpu",
    )


if __name__ == "__main__":
    if sys.argv[1] == "image":
        one_image()
    else:
        one_training_step(Path(sys.argv[2]))
