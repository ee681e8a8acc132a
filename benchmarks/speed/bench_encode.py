"""Images of a folder to latents on disk: `dcht encode`, and a plain loop over a DataLoader.

The loop is what one writes with diffusers: open, resize, crop, encode, save an array a batch. The
encoders have the same weights and both work in this process. Ours does more: it quantizes, keeps
indices and residual, hashes what it read, and can go on where it was stopped.
"""

from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from dcht import Tokenizer
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings

IMAGES, SIDE, BATCH = 4, 256, 4
Versus = Callable[[Callable[[], object], Callable[[], object]], None]


class Folder(Dataset[Tensor]):
    """Images as the encoder takes them."""

    def __init__(self, folder: Path) -> None:
        self.files = sorted(folder.glob("*.png"))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, number: int) -> Tensor:
        image = Image.open(self.files[number]).convert("RGB")
        pixels = np.asarray(ImageOps.fit(image, (SIDE, SIDE), Image.Resampling.BICUBIC))
        return torch.from_numpy(pixels.transpose(2, 0, 1) / np.float32(127.5) - 1)


def bench_encode(versus: Versus, autoencoders: Callable, tmp_path: Path) -> None:
    """Four photographs' worth of noise, at the quarter of DC-AE's widths."""
    folder, numbers = tmp_path / "images", count()
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(IMAGES):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((400, 300), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    plain, theirs = autoencoders(4)
    ours = Tokenizer(replace(plain.config, codebook_size=512)).eval()
    ours.encoder = plain.encoder
    ours.sha256 = "0" * 64
    settings = EncodeSettings(size=(SIDE, SIDE), batch_size=BATCH)

    def loop() -> None:
        out = tmp_path / f"loop-{next(numbers)}"
        out.mkdir()
        for batch, images in enumerate(DataLoader(Folder(folder), batch_size=BATCH)):
            np.save(out / f"{batch}.npy", theirs.encode(images).latent.numpy())

    with torch.inference_mode():
        versus(
            lambda: encode_images(ours, folder, tmp_path / f"ours-{next(numbers)}", settings), loop
        )
