"""What the tokenizer's methods take: PIL, bytes and floats; any integers, grids and flat ones."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dcht import Tokenizer, UsageError
from dcht.images import to_tensor
from dcht.modules.quantizer import VectorQuantizer


@pytest.fixture
def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (64, 96, 3), dtype=np.uint8)) for _ in range(2)]


@torch.inference_mode()
def test_images_of_every_kind_are_the_same(
    tokenizer: Tokenizer, pictures: list[Image.Image]
) -> None:
    floats = torch.stack([to_tensor(image) for image in pictures])
    bytes_ = torch.stack([torch.from_numpy(np.array(image)) for image in pictures])
    bytes_ = bytes_.permute(0, 3, 1, 2)
    assert (bytes_.min(), bytes_.max()) == (0, 255)
    z, indices = tokenizer.encode(floats), tokenizer.tokenize(floats).indices
    decoded = tokenizer.reconstruct(floats)
    for images in (pictures, tuple(pictures), bytes_, floats.double()):
        assert torch.equal(tokenizer.encode(images), z)
        assert torch.equal(tokenizer.tokenize(images).indices, indices)
        assert torch.equal(tokenizer.reconstruct(images), decoded)
        assert torch.equal(tokenizer(images), decoded)
        assert torch.allclose(tokenizer.encode_tiled(images, tile=32), z, atol=1e-5)
    one = tokenizer.encode(pictures[0])
    assert torch.equal(one, tokenizer.encode(to_tensor(pictures[0])[None]))
    white = tokenizer.encode(torch.ones(1, 3, 32, 32))
    for odd in (Image.new("L", (32, 32), 255), Image.new("RGBA", (32, 32), (9, 9, 9, 0))):
        assert torch.allclose(tokenizer.encode(odd), white, atol=1e-6)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(1, 3, 32, 32) * 255, "0..255 is for uint8"),
        (-torch.full((1, 3, 32, 32), 4.5), "run from -4.5 to -4.5"),
        (torch.full((1, 3, 32, 32), torch.nan), "run from nan to nan"),
        (torch.full((1, 3, 32, 32), torch.inf), "run from inf to inf"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.int64), "give uint8 in 0..255 or floats"),
        (torch.zeros(1, 3, 32, 32, dtype=torch.bool), "give uint8 in 0..255 or floats"),
        (torch.zeros(3, 32, 32, dtype=torch.uint8), r"expected \(b, 3, H, W\)"),
        (np.zeros((32, 32, 3), np.uint8), "a ndarray; give PIL images"),
        ("photo.png", "a str; give PIL images"),
        (["photo.png"], "a list; give PIL images"),
        ([], "of one size are needed; found none"),
        (Image.new("RGB", (33, 32)), "side 33 is not a multiple of 32"),
        ([Image.new("RGB", (32, 32)), Image.new("RGB", (64, 32))], "found 32 x 32, 64 x 32"),
    ],
)
def test_other_images_are_refused_in_a_line(
    tokenizer: Tokenizer, images: object, message: str
) -> None:
    for method in (tokenizer.encode, tokenizer.tokenize, tokenizer.reconstruct, tokenizer):
        with pytest.raises(UsageError, match=message) as error:
            method(images)  # type: ignore[operator, arg-type]
        assert "\n" not in str(error.value)


@torch.inference_mode()
def test_sizes_are_compared_upright(tokenizer: Tokenizer) -> None:
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.new("RGB", (32, 64), "red").save(file, "png", exif=exif)
    turned = Image.open(file)
    wide = Image.new("RGB", (64, 32), "red")
    both = tokenizer.encode([turned, wide])
    assert torch.equal(both[0], both[1])
    with pytest.raises(UsageError, match="one size are needed; found 32 x 64, 64 x 32"):
        tokenizer.encode([turned, Image.new("RGB", (32, 64))])


@torch.inference_mode()
def test_overshoot_is_legitimate(tokenizer: Tokenizer) -> None:
    """Of a decoder, of bicubic resizing, of noise."""
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0)).clamp(-4, 4)
    assert images.abs().max() > 3
    assert tokenizer.encode(images).isfinite().all()


def test_in_training_no_image_is_read(
    tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever part trains: it would wait for the device in every step."""

    def forbidden(_: torch.Tensor) -> None:
        raise AssertionError

    monkeypatch.setattr("dcht.tokenizer.check_range", forbidden)
    images = torch.zeros(1, 3, 32, 32)
    with pytest.raises(AssertionError):
        tokenizer.encode(images)
    for part in (tokenizer, tokenizer.encoder, tokenizer.decoder):
        part.train()
        tokenizer.encode(images)
        tokenizer.eval()
    assert tokenizer.encode(images.byte()).isfinite().all(), "bytes have no other range"


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int16, torch.uint16, torch.int32, torch.int64]
)
@torch.inference_mode()
def test_indices_of_every_type_flat_and_as_a_grid(tokenizer: Tokenizer, dtype: torch.dtype) -> None:
    indices = torch.randint(0, 64, (3, 4, 4), generator=torch.Generator().manual_seed(1))
    assert isinstance(tokenizer.quantizer, VectorQuantizer)
    codes = tokenizer.quantizer.codes()
    z_q = codes[indices].permute(0, 3, 1, 2)
    images = tokenizer.decode(z_q)
    given = indices.to(dtype)
    for form in (given, given.flatten(1)):
        assert torch.equal(tokenizer.lookup(form), z_q)
        assert torch.equal(tokenizer.decode_indices(form), images)
        assert torch.equal(tokenizer.decode(form), images)
    assert torch.equal(tokenizer.decode(z_q.flatten(2).mT), images), "(b, n, c), as the head's"
    wide = given.view(3, 2, 8).flatten(1)
    assert torch.equal(tokenizer.lookup(wide, grid=(2, 8)), z_q.reshape(3, 8, 2, 8))
    for decode in (tokenizer.decode_indices, tokenizer.decode):
        assert decode(wide, grid=(2, 8)).shape == (3, 3, 64, 256)


@pytest.mark.parametrize("grid", [(4, 4), (2, 3)])
@torch.inference_mode()
def test_an_empty_batch_is_an_empty_batch(tokenizer: Tokenizer, grid: tuple[int, int]) -> None:
    h, w = grid
    grids = torch.zeros(0, h, w, dtype=torch.uint16)
    for indices in (grids, grids.flatten(1)):
        assert tokenizer.lookup(indices, grid=grid).shape == (0, 8, h, w)
        assert tokenizer.decode_indices(indices, grid=grid).shape == (0, 3, 32 * h, 32 * w)
    assert tokenizer.decode(torch.zeros(0, 8, h, w)).shape == (0, 3, 32 * h, 32 * w)
    images = torch.zeros(0, 3, 32 * h, 32 * w)
    for kind in (images, images.byte()):
        assert tokenizer.encode(kind).shape == (0, 8, h, w)
        assert tokenizer.tokenize(kind).indices.shape == (0, h, w)
        assert tokenizer.reconstruct(kind, tile=32).shape == images.shape


@pytest.mark.parametrize(
    ("indices", "grid", "message"),
    [
        (torch.full((1, 2, 2), 64), None, "run from 64 to 64; the codebook has 0 to 63"),
        (torch.full((1, 4), -1, dtype=torch.int8), None, "run from -1 to -1"),
        (torch.full((1, 2, 2), 65535, dtype=torch.uint16), None, "run from 65535 to 65535"),
        (torch.zeros(2, 6, dtype=torch.long), None, r"6 positions do not fill a square; pass grid"),
        (torch.zeros(2, 6, dtype=torch.long), (2, 4), "6 positions do not fill 2 x 4"),
        (torch.zeros(2, 0, dtype=torch.long), None, "0 positions do not fill a square"),
        (torch.zeros(4, dtype=torch.long), None, r"expected \(b, h, w\) or \(b, n\)"),
        (torch.zeros(1, 2, 2), None, "torch.float32; they should be integers"),
        (torch.zeros(1, 2, 2, dtype=torch.bool), None, "torch.bool; they should be integers"),
    ],
)
def test_other_indices_are_refused(
    tokenizer: Tokenizer, indices: torch.Tensor, grid: tuple[int, int] | None, message: str
) -> None:
    for method in (tokenizer.lookup, tokenizer.decode_indices):
        with pytest.raises(UsageError, match=message):
            method(indices, grid=grid)


@pytest.mark.parametrize("shape", [(1, 7, 2, 2), (8, 2, 2), (1, 4, 7), (1, 6, 8), (8,)])
def test_other_latents_are_refused(tokenizer: Tokenizer, shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match=r"expected \(b, 8, h, w\)|positions do not fill a square"):
        tokenizer.decode(torch.zeros(shape))


@pytest.mark.slow
@torch.inference_mode()
def test_lookup_compiles_in_one_graph(tokenizer: Tokenizer) -> None:
    """And an index outside the codebook is no garbage there: inductor would wrap -1 around."""
    lookup = torch.compile(tokenizer.lookup, fullgraph=True, backend="aot_eager")
    indices = torch.randint(0, 64, (2, 3, 3), generator=torch.Generator().manual_seed(0))
    assert torch.allclose(lookup(indices), tokenizer.lookup(indices))
    assert torch.allclose(lookup(indices.to(torch.uint16).flatten(1)), tokenizer.lookup(indices))
    for wrong in (-1, 64):
        with pytest.raises(RuntimeError, match="the codebook has 0 to 63"):
            lookup(torch.full((2, 3, 3), wrong))


@pytest.mark.slow
@torch.inference_mode()
def test_reconstruction_compiles_in_one_graph(tokenizer: Tokenizer) -> None:
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    whole = torch.compile(tokenizer, fullgraph=True, backend="eager")
    assert torch.allclose(whole(images), tokenizer(images), atol=1e-5)


def test_meta_tensors_have_shapes(tokenizer: Tokenizer) -> None:
    """Nothing is read of what has no values."""
    with torch.device("meta"):
        abstract = Tokenizer(tokenizer.config).eval()
        images, indices = torch.zeros(2, 3, 64, 96), torch.zeros(2, 6, dtype=torch.int32)
    assert abstract.lookup(indices, grid=(2, 3)).shape == (2, 8, 2, 3)
    assert abstract.tokenize(images).residual.shape == (2, 8, 2, 3)
    assert abstract(images).shape == (2, 3, 64, 96)
    assert abstract(images).is_meta


def test_from_pretrained_casts_and_places(saved_tokenizer: object) -> None:
    loaded = Tokenizer.from_pretrained(saved_tokenizer, dtype=torch.bfloat16, device="meta")  # type: ignore[arg-type]
    weight = loaded.decoder.input.weight
    assert (weight.dtype, weight.device.type, loaded.training) == (torch.bfloat16, "meta", False)
