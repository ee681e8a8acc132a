"""Tiles give what the whole image gives: no seam can be seen where no pixel differs."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dcht import PRESETS, Tokenizer, UsageError
from dcht.config import Block, CoderConfig, Resample, TokenizerConfig
from dcht.images import open_image, to_tensor
from dcht.modules import tiling
from dcht.reconstruct import reconstruct_images


def deep(*, sana: bool) -> TokenizerConfig:
    """A published layout in miniature, with two blocks a stage: margins have something to see."""

    def coder(config: CoderConfig, depths: list[int]) -> CoderConfig:
        last = Block.EVIT5 if sana else Block.EVIT
        return replace(config, depths=depths, blocks=[Block.RES] * 3 + [last] * 3)

    tiny = PRESETS["tiny"]
    first = 1 if sana else 0
    return replace(
        tiny,
        encoder=coder(tiny.encoder, [first, 2, 2, 1, 1, 1]),
        decoder=coder(tiny.decoder, [first, 2, 2, 1, 1, 1]),
        resample=Resample.STRIDE if sana else Resample.SHUFFLE,
    )


def random_tokenizer(config: TokenizerConfig) -> Tokenizer:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        tokenizer = Tokenizer(config).eval()
        for name, value in tokenizer.state_dict().items():
            if name.endswith("norm.weight"):
                value.fill_(3.0)  # blocks that speak up: a margin that is too small shows
    return tokenizer


@pytest.fixture(scope="module", params=["mix", "sana"])
def deep_tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return random_tokenizer(deep(sana=request.param == "sana"))


def pixels(height: int, width: int, batch: int = 1) -> torch.Tensor:
    seeded = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(batch, 3, height, width, generator=seeded) * 2 - 1


@pytest.mark.parametrize(
    ("height", "width", "tile", "batch"),
    [(256, 192, 64, 1), (96, 96, 64, 2), (128, 128, 512, 1)],
)
@torch.inference_mode()
def test_tiles_equal_the_whole(
    deep_tokenizer: Tokenizer, height: int, width: int, tile: int, batch: int
) -> None:
    images = pixels(height, width, batch)
    z = deep_tokenizer.encode(images)
    assert (deep_tokenizer.encode_tiled(images, tile=tile) - z).abs().max() <= 1e-5
    whole = deep_tokenizer.decode(z)
    assert (deep_tokenizer.decode_tiled(z, tile=tile) - whole).abs().max() <= 1e-4
    for path in ("hybrid", "discrete"):
        tiled = deep_tokenizer.reconstruct(images, path, tile=tile)
        assert (tiled - deep_tokenizer.reconstruct(images, path)).abs().max() <= 1e-4


@torch.inference_mode()
def test_margins_are_needed(deep_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above would not pass by itself: without margins, a seam shows."""
    images = pixels(128, 192)
    z, whole = deep_tokenizer.encode(images), deep_tokenizer.reconstruct(images)
    monkeypatch.setattr(tiling, "sight", lambda layer: 0)
    assert (deep_tokenizer.encode_tiled(images, tile=64) - z).abs().max() > 1e-3
    assert (deep_tokenizer.decode_tiled(z, tile=64) - whole).abs().max() > 1e-3


@torch.inference_mode()
def test_attention_sees_the_whole_image(deep_tokenizer: Tokenizer) -> None:
    """A pixel far outside a tile and its margin changes the tile, as it does without tiles."""
    images = pixels(256, 32)
    other = images.clone()
    other[..., -32:, :] = 1
    z, changed = (deep_tokenizer.encode_tiled(i, tile=64)[..., 0, 0] for i in (images, other))
    assert (z - changed).abs().max() > 1e-4


def test_tiles_cover_a_map_once() -> None:
    seen = torch.zeros(7, 10, dtype=torch.int64)
    for tile in tiling.tiles(7, 10, side=3, margin=2):
        seen[tile.core] += 1
        assert torch.equal(seen[tile.outer][tile.inner], seen[tile.core])
        for span, length in zip(tile.outer, (7, 10), strict=True):
            assert (max(0, span.start), min(length, span.stop)) == (span.start, span.stop)
    assert torch.equal(seen, torch.ones_like(seen))


@pytest.mark.parametrize("tile", [0, -32, 31, 100])
def test_a_wrong_tile_is_named(tokenizer: Tokenizer, tile: int) -> None:
    with pytest.raises(UsageError, match=f"tile {tile} is not a multiple of 32; for example 512"):
        tokenizer.encode_tiled(pixels(64, 64), tile=tile)
    with pytest.raises(UsageError, match=f"tile {tile} is not"):
        tokenizer.decode_tiled(torch.zeros(1, 8, 2, 2), tile=tile)


def test_the_command_gives_the_same_images(images: Path, tmp_path: Path) -> None:
    for path in ("hybrid", "compare"):
        whole, tiled = (tmp_path / f"{path}-{name}" for name in ("whole", "tiled"))
        common = {"size": (96, 64), "path": path}
        tokenizer = Tokenizer.from_pretrained()
        reconstruct_images(tokenizer, images, whole, **common)  # type: ignore[arg-type]
        reconstruct_images(tokenizer, images, tiled, tile=32, **common)  # type: ignore[arg-type]
        for file in whole.rglob("*.png"):
            other = tiled / file.relative_to(whole)
            ours, theirs = (to_tensor(open_image(name)) * 127.5 for name in (file, other))
            difference = (ours - theirs).abs().round()
            # The amplified error of `compare` turns a rounding into 5 levels.
            assert difference.max() <= (5 if path == "compare" else 1)
            assert (difference > 0).float().mean() <= 1e-3


PEAK = """
import resource, torch
from dcht.modules import tiling
from dcht import PRESETS, Tokenizer
torch.set_grad_enabled(False)
whole, empty = tiling.tiles, torch.empty

def largest(*size, **options):
    def area(tile):
        rows, columns = tile.outer
        return (rows.stop - rows.start) * (columns.stop - columns.start)
    return [max(whole(*size, **options), key=area)]

tiling.tiles = largest
torch.empty = lambda *size, **options: empty(*size, **options).zero_()
torch.empty_like = torch.zeros_like
tokenizer = Tokenizer(PRESETS["f32c32"]).eval()
images = torch.rand(1, 3, 4096, 4096) * 2 - 1
z = tokenizer.encode_tiled(images)
decoded = tokenizer.decode_tiled(tokenizer.quantize(z).z_q)
assert decoded.shape == images.shape
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""
"""Of every pass over the tiles only the largest tile is computed, and every map is written whole:
the memory is that of the full run, which takes over an hour on two cores."""


@pytest.mark.slow
def test_4096_pixels_square_within_6_gb(capsys: pytest.CaptureFixture[str]) -> None:
    """The paper's full-size layout, in a process of its own whose peak memory is read."""
    result = subprocess.run(
        [sys.executable, "-c", PEAK], capture_output=True, text=True, check=True
    )
    with capsys.disabled():
        print(f"\npeak memory in GB: {float(result.stdout):.2f}")
    assert float(result.stdout) < 6
