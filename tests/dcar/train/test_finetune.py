"""`docs/finetune.md` from end to end, in small: images, latents, the bundled checkpoint, LoRA."""

from pathlib import Path

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from PIL import Image

from dcar import TextToImage
from dcar.conf import register
from dcar.train import train
from dcar.weights.pretrained import BUNDLED, load_pretrained
from dcht import Tokenizer
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings
from dcht.tokenizer import BUNDLED as BUNDLED_TOKENIZER

pytestmark = pytest.mark.skipif(
    not (BUNDLED.is_dir() and BUNDLED_TOKENIZER.is_dir()), reason="nothing is bundled here"
)


@pytest.mark.parametrize("rank", [0, 4])
def test_the_bundled_checkpoint_takes_in_images_and_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], rank: int
) -> None:
    rng = np.random.default_rng(0)
    for number, caption in enumerate(["a photo of my axolotl", "a photo of a dog"]):
        pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((96, 96), Image.Resampling.BICUBIC)
        image.save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text(caption)
    settings = EncodeSettings(size=(64, 64), batch_size=2)
    encode_images(Tokenizer.from_pretrained(None), tmp_path, tmp_path / "latents", settings)
    register()
    GlobalHydra.instance().clear()
    with initialize_config_module("dcar.conf", version_base="1.3"):
        overrides = [
            "+experiment=finetune", "init_from=bundled", f"data.root={tmp_path / 'latents'}",
            f"out={tmp_path / 'run'}", "steps=2", "batch_size=2", "prompts=[]", "device=cpu",
            f"lora.rank={rank}",
        ]  # fmt: skip
        config = OmegaConf.to_object(compose("train", overrides=overrides))
    assert train(config)  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert "words are new to bundled and are learned from scratch: axolotl" in said
    assert load_pretrained(None).text.unknown_words("my axolotl") != []
    pipe = TextToImage.from_pretrained(tmp_path / "run" / "checkpoint")
    assert pipe.text.unknown_words("a photo of my axolotl") == []
    assert pipe("a photo of my axolotl", num_steps=2, num_diffusion_steps=2, solver="dpmpp").images
