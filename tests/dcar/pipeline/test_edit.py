from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops

from dcar import Order, TextToImage, cli
from dcar.commands import edit as commands_edit
from dcar.pipeline.edit import encode_edits, fit_mask, inpaint, outpaint
from dcht import UsageError
from dcht.images import to_tensor

SIZE = (128, 96)
"""Width and height: 4 x 3 tokens."""


@pytest.fixture
def photo() -> Image.Image:
    coarse = np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC)


def rectangle(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((SIZE[1], SIZE[0]), bool)
    mask[top:bottom, left:right] = True
    return mask


EMPTY, FULL = rectangle(0, 0, 0, 0), rectangle(0, 0, *SIZE)
TEN = [
    rectangle(96, 64, 97, 65),
    FULL,
    rectangle(0, 0, 1, 1),
    rectangle(31, 31, 33, 33),
    rectangle(64, 0, 128, 96),
    rectangle(0, 40, 128, 50),
    rectangle(100, 70, 128, 96),
    rectangle(32, 32, 96, 64),
    rectangle(0, 0, 97, 96),
    rectangle(5, 0, 60, 30),
]
"""1, 12, 1, 4, 6, 4, 1, 2, 12 and 2 of the 12 tokens."""


def levels(a: Image.Image, b: Image.Image) -> np.ndarray:
    return np.asarray(ImageChops.difference(a, b))


def alike(a: Image.Image, b: Image.Image) -> bool:
    """Equal in the sense that another batch size allows: one level on a thousandth."""
    return levels(a, b).max() <= 1 and bool((levels(a, b) > 0).mean() <= 1e-3)


@pytest.mark.parametrize("order", [order.value for order in Order])
def test_ten_unequal_masks_in_one_batch_are_ten_single_edits(
    pipe: TextToImage, photo: Image.Image, order: str
) -> None:
    together = pipe.edit(photo, TEN, "a red apple", seed=3, batch_size=10, order=order)
    tokens = [int(np.asarray(mask).astype(bool).sum()) // 1024 for mask in together.masks or []]
    assert tokens == [1, 12, 1, 4, 6, 4, 1, 2, 12, 2]
    kept, _, _ = pipe.tokenizer.tokenize(to_tensor(photo)[None])
    for k, mask in enumerate(TEN):
        alone = pipe.edit(photo, mask, "a red apple", seed=3, first_index=k, order=order)
        assert torch.equal(alone.indices[0], together.indices[k]), f"mask {k}"
        assert alike(alone.images[0], together.images[k]), f"mask {k}"
        # What is outside the snapped mask: ids as they were, pixels bit for bit.
        outside = np.asarray(alone.masks[0]) == 0 if alone.masks else None
        assert outside is not None
        assert np.array_equal(np.asarray(alone.images[0])[outside], np.asarray(photo)[outside])
        known = torch.from_numpy(outside[::32, ::32])
        assert torch.equal(alone.indices[0][known], kept[0][known])
        assert levels(alone.images[0], photo)[~outside].mean() > 5


@pytest.mark.parametrize("order", [order.value for order in Order])
def test_everything_masked_is_generation(pipe: TextToImage, photo: Image.Image, order: str) -> None:
    drawn = pipe("a blue car", width=SIZE[0], height=SIZE[1], seed=8, num_images=2, order=order)
    for mask in (None, FULL, Image.new("L", SIZE, 255)):
        edited = pipe.edit(photo, mask, "a blue car", seed=8, num_images=2, order=order)
        assert torch.equal(edited.indices, drawn.indices)
        assert [a.tobytes() for a in edited.images] == [b.tobytes() for b in drawn.images]


def test_nothing_to_change_is_an_error(pipe: TextToImage, photo: Image.Image) -> None:
    dim = Image.new("RGBA", SIZE, (127, 127, 127, 255))
    for mask in (EMPTY, Image.new("L", SIZE), dim, [FULL, EMPTY]):
        with pytest.raises(UsageError, match="nothing to change: the mask is nowhere bright"):
            pipe.edit(photo, mask, "a blue car")


def test_kept_tokens_keep_their_exact_latent(pipe: TextToImage, photo: Image.Image) -> None:
    """The latent that is decoded: z where nothing is drawn, code plus residual where it is."""
    decoded = []
    decode = pipe.tokenizer.decode
    pipe.tokenizer.decode = lambda latent: decoded.append(latent) or decode(latent)  # type: ignore[method-assign]
    result = pipe.edit(photo, rectangle(32, 32, 96, 64), "a red apple")
    z = pipe.tokenizer.encode(to_tensor(photo)[None])
    (latent,) = decoded
    inside = torch.zeros(1, 3, 4, dtype=torch.bool)
    inside[:, 1, 1:3] = True
    assert torch.equal(latent.movedim(1, 3)[~inside], z.movedim(1, 3)[~inside])
    residual = (latent - pipe.tokenizer.lookup(result.indices)).movedim(1, 3)[inside]
    assert residual.abs().min() > 0


def test_a_mask_is_bright_or_true(pipe: TextToImage, photo: Image.Image) -> None:
    region = np.zeros((3, 4), bool)
    region[1, 1:3] = True
    bright = Image.fromarray(rectangle(40, 40, 70, 50).astype(np.uint8) * 128)
    for mask in (rectangle(40, 40, 70, 50), bright, bright.convert("RGB")):
        assert np.array_equal(inpaint(photo, mask).region, region)
    dim = bright.point(lambda value: value and 127)
    with pytest.raises(UsageError, match="nothing to change"):
        inpaint(photo, dim)


def test_a_mask_is_fitted_without_losing_or_gaining() -> None:
    """Thin parts survive any shrinking; what lies on edges of pixels is as large as it is."""
    tall = np.zeros((900, 2000), bool)
    tall[:, 701] = True  # a hundredth of a pixel of the result
    tall[450, :] = True
    fitted = fit_mask(tall, (20, 8))  # resized to 20 x 9, a row cropped from below
    column, row = np.zeros_like(fitted), np.zeros_like(fitted)
    column[:, 7], row[4] = True, True
    assert np.array_equal(fitted, column | row)

    half = np.zeros((1000, 1000), bool)
    half[:500, 250:500] = True
    assert np.argwhere(fit_mask(half, (512, 512))).min(0).tolist() == [0, 128]
    assert np.argwhere(fit_mask(half, (512, 512))).max(0).tolist() == [255, 255]
    assert np.argwhere(fit_mask(half, (2048, 2048))).max(0).tolist() == [1023, 1023]
    assert np.array_equal(fit_mask(half, (1000, 1000)), half)
    # Wider than asked for: the sides are cropped.
    assert np.array_equal(fit_mask(half, (1000, 500)), half[250:750])


def test_command_line_and_api_read_a_mask_alike(photo: Image.Image, tmp_path: Path) -> None:
    """A transparent hole in black is one token, 16-bit gray of 30 % none, of 60 % two."""
    hole = Image.new("RGBA", SIZE, (0, 0, 0, 255))
    hole.paste((0, 0, 0, 0), (40, 40, 50, 50))
    gray = np.where(rectangle(40, 40, 70, 50), 0.6, 0.3) * 65535
    masks = {
        "hole": (hole, ["....", ".#..", "...."]),
        "deep": (Image.fromarray(gray.astype(np.uint16)), ["....", ".##.", "...."]),
        "palette": (hole.convert("PA"), ["....", ".#..", "...."]),
        "bits": (Image.fromarray(rectangle(0, 0, 1, 1)), ["#...", "....", "...."]),
    }
    photo.save(tmp_path / "photo.png")
    for name, (mask, rows) in masks.items():
        region = np.array([[letter == "#" for letter in row] for row in rows])
        assert np.array_equal(inpaint(photo, mask).region, region), name
        path = tmp_path / f"{name}.png"
        mask.save(path) if mask.mode != "PA" else mask.convert("RGBA").save(path)
        words = [str(tmp_path / "photo.png"), "a dog", "--mask", str(path), "--out", "x.png"]
        arguments = cli.build_parser().parse_args(["edit", *words])
        asked, bright = commands_edit.read_images(arguments)
        edit = commands_edit.snapped_edit(arguments, asked, bright, 32)
        assert np.array_equal(edit.region, region), name
        with Image.open(path) as opened:
            assert np.array_equal(inpaint(photo, opened).region, region), name


def test_outpainting_keeps_the_image_in_its_place(pipe: TextToImage, photo: Image.Image) -> None:
    result = pipe.outpaint(photo, "a dog", left=32, right=64, top=32, seed=1)
    image = result.images[0]
    assert image.size == (128 + 96, 96 + 32) and result.indices.shape == (1, 4, 7)
    assert image.crop((32, 32, 160, 128)).tobytes() == photo.tobytes()
    assert result.masks is not None
    box = result.masks[0].point(lambda value: 255 - value).getbbox()
    assert box == (32, 32, 160, 128)
    # Tokens move whole: they are those of the image alone.
    kept, _, _ = pipe.tokenizer.tokenize(to_tensor(photo)[None])
    assert torch.equal(result.indices[0, 1:, 1:5], kept[0])


def test_strength_is_the_share_that_is_drawn_anew(pipe: TextToImage, photo: Image.Image) -> None:
    kept, _, _ = pipe.tokenizer.tokenize(to_tensor(photo)[None])
    for strength, count in ((0.01, 1), (0.5, 6), (1.0, 12)):
        edit = inpaint(photo, None, strength=strength)
        canvas = encode_edits(pipe.tokenizer, [edit] * 3, seed=2, numbers=range(3))
        assert canvas.regenerate.sum(dim=(1, 2)).tolist() == [count] * 3
        result = pipe.edit(photo, None, "a dog", strength=strength, seed=2)
        assert torch.equal(result.indices[0][~canvas.regenerate[0]], kept[0][~canvas.regenerate[0]])
    half = encode_edits(
        pipe.tokenizer, [inpaint(photo, None, strength=0.5)] * 4, seed=2, numbers=range(4)
    ).regenerate
    assert len({tuple(row.flatten().tolist()) for row in half}) > 1, "each image has its own choice"
    # Inside a mask it picks of the mask, and pixels outside stay.
    inside = inpaint(photo, TEN[4], strength=0.5)
    canvas = encode_edits(pipe.tokenizer, [inside], seed=2, numbers=[0])
    assert canvas.regenerate.sum() == 3 and not canvas.regenerate[0, :, :2].any()


def test_every_step_of_an_edit_shows_the_image(pipe: TextToImage, photo: Image.Image) -> None:
    edit = inpaint(photo, TEN[7])
    settings = pipe.settings(num_steps=4)
    previews = list(
        pipe.generate_batch(["a dog"], settings=settings, size=(96, 128), seed=0, edits=[edit])
    )
    assert [preview.refined for preview in previews] == [False] * 4 + [True]
    for preview in previews:
        assert preview.images[0].crop((0, 0, 128, 32)).tobytes() == (
            photo.crop((0, 0, 128, 32)).tobytes()
        )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p, i: p.edit(i.crop((0, 0, 100, 96)), None, "a"), "width 100 is not a multiple"),
        (lambda p, i: p.edit(i, Image.new("L", (64, 64)), "a"), "the mask is 64 x 64"),
        (lambda p, i: p.edit(i, np.zeros((96, 128)), "a"), "an array of float64"),
        (lambda p, i: p.edit(i, "mask.png", "a"), "the mask is a str; give an image"),
        (lambda p, i: p.edit(np.asarray(i), None, "a"), "the image is a ndarray; give a PIL"),
        (lambda p, i: p.edit(i, Image.new("F", SIZE, 1.0), "a"), "mode F .* has no range"),
        (lambda p, i: p.outpaint(i.convert("F"), "a", left=32), "mode F .* has no range"),
        (lambda p, i: p.edit(i, None, "a", strength=0), "strength is 0"),
        (lambda p, i: p.edit(i, None, "a", strength=1.5), "strength is 1.5"),
        (lambda p, i: p.edit([i, i], [FULL] * 3, "a"), "2 and 3 of a kind do not pair up"),
        (lambda p, i: p.edit([i, i.crop((0, 0, 64, 64))], None, "a"), "of several sizes"),
        (lambda p, i: p.outpaint(i, "a"), "nothing to generate"),
        (lambda p, i: p.outpaint(i, "a", left=40), "left 40 is not a multiple of 32; .* is 32"),
        (lambda p, i: p.outpaint(i, "a", top=-32), "top -32 is not a multiple of 32; .* is 0"),
    ],
)
def test_what_does_not_fit_is_one_line(  # type: ignore[no-untyped-def]
    pipe: TextToImage, photo: Image.Image, call, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        call(pipe, photo)


def test_a_image_with_transparency_or_gray_is_edited_as_rgb(pipe: TextToImage) -> None:
    for mode in ("L", "RGBA", "P"):
        edited = pipe.edit(Image.new(mode, (64, 64)), None, "a dog")
        assert edited.images[0].mode == "RGB"
    assert outpaint(Image.new("L", (64, 64)), left=32).image.mode == "RGB"
