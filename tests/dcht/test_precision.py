"""The bundled tokenizer in every precision, on photographs; and what is not finite, refused."""

import copy
import json
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from dcht import CheckpointError, LatentsStore, Tokenizer, UsageError
from dcht.cli import main
from dcht.data.image_folder import RECORD
from dcht.device import Precision, pick_precision
from dcht.images import open_image, resize_crop, to_pil, to_tensor
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings
from dcht.modules.wide import BatchNorm2d

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "rocket.jpg")
SIZE = 256
SAME_INDICES = {torch.bfloat16: 0.95, torch.float16: 0.98}
"""Share of the positions whose index is fp32's; measured on 14 photographs: 0.991 and 0.999."""
HALVES = [torch.float16, torch.bfloat16]
DECODED = {torch.float16: 60.0, torch.bfloat16: 50.0}
"""PSNR in dB between images decoded in half precision and in fp32; measured: 77 and 57."""


@pytest.fixture(scope="module")
def bundled() -> Tokenizer:
    return Tokenizer.from_pretrained()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs that scikit-image ships."""
    spec = find_spec("skimage")
    assert spec is not None and spec.origin is not None
    folder = tmp_path_factory.mktemp("photographs")
    for name in PHOTOGRAPHS:
        image = open_image(Path(spec.origin).parent / "data" / name)
        resize_crop(image, (SIZE, SIZE)).save(folder / f"{Path(name).stem}.png")
    return folder


@pytest.fixture(scope="module")
def photographs(folder: Path) -> torch.Tensor:
    return torch.stack([to_tensor(open_image(path)) for path in sorted(folder.iterdir())])


def dcht(*words: object) -> int | str | None:
    """The exit code of a command line, run in this process."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as end:
        patch.setattr("sys.argv", ["dcht", *map(str, words)])
        main()
    return end.value.code


def psnr(images: torch.Tensor, others: torch.Tensor) -> float:
    """Of the worst image, in dB, for values in [-1, 1]."""
    error = (images.double() - others.double()).square().mean(dim=(1, 2, 3)).max()
    return float(10 * torch.log10(4 / error))


def test_encode_in_every_precision(folder: Path, tmp_path: Path) -> None:
    """fp16 wrote residuals that were all NaN and indices that were all 0, with exit code 0."""
    stores = {}
    for precision in (Precision.fp32, Precision.bf16, Precision.fp16):
        out = tmp_path / precision.name
        words = ["encode", folder, "--size", SIZE, "--precision", precision.name, "--out", out]
        assert dcht(*words) == 0
        stores[precision] = LatentsStore(out).load_all()
    indices, residual = stores.pop(Precision.fp32)
    assert len(indices.unique()) > 32
    for precision, (ours, rest) in stores.items():
        assert (ours == indices).float().mean() >= SAME_INDICES[precision.dtype]
        same = (ours == indices)[:, None].expand_as(rest)
        assert rest.isfinite().all()
        assert (rest - residual)[same].abs().max() < 0.01  # of a z of length 1


@pytest.mark.parametrize("dtype", HALVES)
@torch.inference_mode()
def test_every_method_of_a_cast_tokenizer(
    bundled: Tokenizer, photographs: torch.Tensor, dtype: torch.dtype
) -> None:
    """`decode(z_q + residual)` raised a clash of types, and float16 gave NaN."""
    pixels = photographs[:2]
    z = bundled.encode(pixels)
    indices, decoded = bundled.quantize(z).indices, bundled.decode(z)
    cast = Tokenizer.from_pretrained(dtype=dtype)
    assert cast.decoder.input.weight.dtype == dtype
    for given in (pixels.to(dtype), pixels):
        latents = cast.tokenize(given)
        assert latents.z_q.dtype == latents.residual.dtype == torch.float32
        assert (latents.indices == indices).float().mean() >= SAME_INDICES[dtype]
        assert (latents.z_q + latents.residual - z).norm(dim=1).max() < 0.05
    for latent in (z, z.to(dtype), z.half()):
        images = cast.decode(latent)
        assert images.dtype == dtype
        assert psnr(images, decoded) > DECODED[dtype]
    # The codebook is not rounded: what fp32 stored is what half precision reads.
    assert torch.equal(cast.lookup(indices), bundled.lookup(indices))
    assert torch.equal(cast.residual(z), bundled.residual(z))
    assert psnr(cast.decode_indices(indices), bundled.decode_indices(indices)) > 40
    assert torch.equal(cast(pixels), cast.reconstruct(pixels))
    for path in ("hybrid", "discrete"):
        tiled = cast.reconstruct(pixels[:1], path, tile=128)
        assert psnr(tiled, cast.reconstruct(pixels[:1], path)) > 40


@torch.inference_mode()
def test_a_tokenizer_in_fp64(tokenizer: Tokenizer) -> None:
    pixels = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = tokenizer.tokenize(pixels)
    latent, images = latents.z_q + latents.residual, tokenizer.reconstruct(pixels)
    wide = copy.deepcopy(tokenizer).double()
    for given in (pixels, pixels.double(), pixels.bfloat16()):
        found = wide.tokenize(given)
        if given.dtype != torch.bfloat16:
            assert torch.equal(found.indices, latents.indices)
            assert torch.allclose(found.residual, latents.residual, atol=1e-5)
    for given in (latent, latent.double()):
        assert torch.allclose(wide.decode(given).float(), images, atol=1e-4)
    assert torch.allclose(wide.reconstruct(pixels, tile=32).float(), images, atol=1e-4)


@pytest.mark.parametrize("dtype", HALVES)
@torch.inference_mode()
def test_autocast_decodes(
    bundled: Tokenizer, photographs: torch.Tensor, dtype: torch.dtype
) -> None:
    z = bundled.encode(photographs)
    with torch.autocast("cpu", dtype):
        again = bundled.decode(z)
    assert psnr(again, bundled.decode(z)) > DECODED[dtype]


def test_a_cast_tokenizer_makes_no_store(bundled: Tokenizer, folder: Path, tmp_path: Path) -> None:
    """Its plan would say fp32."""
    cast = copy.deepcopy(bundled).half()
    with pytest.raises(UsageError, match="was cast to fp16"):
        encode_images(cast, folder, tmp_path / "out", EncodeSettings(size=(64, 64)))


@pytest.mark.parametrize("dtype", HALVES)
def test_batch_norm_stays_wide(dtype: torch.dtype) -> None:
    """A running variance of 1e5 is infinite in float16, and the layer's output its bias."""
    norm = BatchNorm2d(2).eval()
    norm.running_var.fill_(1e5)  # type: ignore[union-attr]
    x = torch.full((1, 2, 1, 1), 316.25)
    result = norm.to(dtype)(x.to(dtype))
    assert {tensor.dtype for tensor in norm.state_dict().values()} == {torch.float32, torch.int64}
    assert result.dtype == dtype
    assert torch.allclose(result.float(), torch.ones(1, 2, 1, 1), atol=0.01)
    assert norm.double().running_var.dtype == torch.float64  # type: ignore[union-attr]


def test_z_without_numbers_is_not_encoded(
    bundled: Tokenizer, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights that overflow in fp16 alone: one line, exit code 2, and no store."""
    loud = copy.deepcopy(bundled)
    with torch.no_grad():
        loud.encoder.stem.conv.weight.mul_(1e6)  # type: ignore[union-attr]
        loud.encoder.stem.conv.bias.zero_()  # type: ignore[union-attr]
    loud.save_pretrained(tmp_path / "loud")
    for precision, code in (("fp32", 0), ("fp16", 2)):
        out = tmp_path / precision
        words = ["encode", folder, "--ckpt", tmp_path / "loud", "--size", 64, "--out", out]
        assert dcht(*words, "--precision", precision) == code
        assert (out / "manifest.json").exists() is (code == 0)
    assert "z of 5 of 5 images is NaN or infinite with --precision fp16" in capsys.readouterr().err


@torch.inference_mode()
def test_nearest_gives_no_code_to_what_is_no_number(tokenizer: Tokenizer) -> None:
    z = tokenizer.encode(torch.zeros(1, 3, 64, 64))
    z[0, 3, 1, 0] = torch.nan
    indices, z_q = tokenizer.require_quantizer()(z)
    assert indices.flatten().tolist().index(64) == 2, "64 codes: 0 to 63"
    assert (indices == 64).sum() == 1
    assert z_q[0, :, 1, 0].isnan().all()
    assert z_q.isnan().sum() == z_q.shape[1]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("key", ["quantizer.codebook", "decoder.stages.3.1.norm.running_var"])
def test_weights_that_are_not_finite_are_refused(
    saved_tokenizer: Path, images: Path, key: str, value: float
) -> None:
    path = saved_tokenizer / "model.safetensors"
    tensors = load_file(path)
    tensors[key].view(-1)[-1] = value
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=f"that are not finite: {key}"):
        Tokenizer.from_pretrained(saved_tokenizer)
    out = images.parent / "out"
    words = ["reconstruct", images, "--ckpt", saved_tokenizer, "--size", 64, "--out", out]
    assert dcht(*words) == 4
    assert not out.exists()


def test_weights_of_another_type_are_refused(saved_tokenizer: Path) -> None:
    path = saved_tokenizer / "model.safetensors"
    tensors = load_file(path)
    tensors["quantizer.codebook"] = tensors["quantizer.codebook"].round().to(torch.int32)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"of another type: quantizer\.codebook torch\.int32"):
        Tokenizer.from_pretrained(saved_tokenizer)


@pytest.mark.parametrize("damage", ["nan", "inf", "index"])
def test_a_store_without_numbers_is_refused(
    saved_tokenizer: Path, images: Path, tmp_path: Path, damage: str
) -> None:
    """By whoever reads it: decode, inspect and the dataset; a manifest without hashes included."""
    store = tmp_path / "store"
    common = ["--ckpt", saved_tokenizer]
    encode = ["encode", images, *common, "--size", 64, "--out", store]
    assert dcht(*encode) == 0
    path = store / "shard-00000.safetensors"
    tensors = load_file(path)
    if damage == "index":
        tensors["indices"].view(torch.int16)[2, 0, 1] = 64
    else:
        tensors["residual"][2, 0, 1, 1] = float(damage)
    save_file(tensors, path)
    manifest = json.loads((store / "manifest.json").read_text()) | {"sha256": {}}
    (store / "manifest.json").write_text(json.dumps(manifest))
    named = "index 64 of a codebook of 64" if damage == "index" else "NaN or infinite"
    opened = LatentsStore(store)
    opened.read(1)
    for read in (opened.load_all, lambda: opened.read(2)):
        with pytest.raises(CheckpointError, match=named):
            read()
    for words in (["decode", store, *common, "--out", tmp_path / "out"], ["inspect", store]):
        assert dcht(*words) == 4


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_pixels_that_are_not_finite_make_no_image(value: float) -> None:
    """255 of NaN is 0 on one machine and 255 on the next."""
    pixels = torch.zeros(3, 4, 4)
    assert isinstance(to_pil(pixels), Image.Image)
    pixels[1, 2, 3] = value
    with pytest.raises(UsageError, match="NaN or infinity"):
        to_pil(pixels)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bf16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bf16"),
        ({"avx512_bf16": False, "avx512_fp16": True}, "fp32"),
        ({"architecture": "aarch64"}, "fp32"),
    ],
)
def test_auto_is_what_the_processor_is_fast_in(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, object], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert pick_precision("auto", "cpu") is Precision(expected)


@pytest.mark.parametrize(("wide", "expected"), [(True, "bf16"), (False, "fp16")])
def test_auto_on_a_gpu(monkeypatch: pytest.MonkeyPatch, wide: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: wide)
    assert pick_precision("auto", "cuda:1") is Precision(expected)
    assert pick_precision("auto", "mps") is Precision.fp16


def test_what_cannot_be_asked_for() -> None:
    with pytest.raises(UsageError, match=r"'bf17' is not known; use auto, fp32, bf16, fp16 or int"):
        pick_precision("bf17", "cpu")
    with pytest.raises(UsageError, match="int8 is of the linear layers"):
        Tokenizer.from_pretrained(precision="int8")
    with pytest.raises(UsageError, match="give one"):
        Tokenizer.from_pretrained(precision="bf16", dtype=torch.bfloat16)
    assert pick_precision("int8", "cpu", int8=True).dtype == torch.float32
    assert Tokenizer.from_pretrained(precision="fp16").precision is Precision.fp16


def test_what_is_made_in_another_precision_says_so(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The plan holds what `auto` became; folders of images know it, without a word for fp32."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True})
    store, out = tmp_path / "store", tmp_path / "out"
    assert dcht("encode", folder, "--out", store, "--size", 64, "--precision", "auto") == 0
    assert LatentsStore(store).plan.precision == "bf16"
    for verb, source in (("decode", store), ("reconstruct", folder)):
        words = [verb, source, "--out", out / verb]
        assert dcht(*words) == 0
        assert "precision" not in (out / verb / RECORD).read_text()
        assert dcht(*words, "--precision", "bf16") == 2
        assert "made with other settings" in capsys.readouterr().err
        assert dcht(*words, "--precision", "auto", "--force") == 0
        assert json.loads((out / verb / RECORD).read_text())["precision"] == "bf16"
    for verb, source in (("encode", folder), ("decode", store), ("reconstruct", folder)):
        assert dcht(verb, source, "--out", tmp_path / "no", "--precision", "int8") == 2
        assert "int8 is of the linear layers" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
