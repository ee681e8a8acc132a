"""Published autoencoders, in both key families and as any file, become tokenizers."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from dcht import PRESETS, CheckpointError, Tokenizer, UsageError
from dcht.cli import main
from dcht.config import VARIANTS
from dcht.convert.keys import Family, their_key
from dcht.convert.latent_norm import LATENT_NORM, mean_latent_norm
from dcht.convert.layout import check_variant, find_layout
from dcht.convert.published import convert, write_converted
from dcht.convert.sources import PublishedFiles, read_source
from dcht.images import open_image, resize_crop, to_tensor

STEPS = 500


def pixels(height: int, width: int) -> torch.Tensor:
    seeded = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(1, 3, height, width, generator=seeded) * 2 - 1


def efficientvit(folder: Path) -> dict[str, torch.Tensor]:
    """The same weights under the original names."""
    tokenizer, _ = convert(read_source(folder))
    return {
        their_key(key, tokenizer.config, Family.EFFICIENTVIT): value.clone()
        for key, value in tokenizer.state_dict().items()
    }


def assert_reconstructs_alike(tokenizer: Tokenizer, folder: Path) -> None:
    from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

    theirs = AutoencoderDC.from_pretrained(folder)
    for height, width in ((64, 64), (96, 160)):
        images = pixels(height, width)
        with torch.inference_mode():
            z = theirs.encode(images, return_dict=False)[0]
            assert (tokenizer.encode(images) - z).abs().max() <= 1e-4
            expected = theirs.decode(z, return_dict=False)[0]
            assert (tokenizer.decode(z) - expected).abs().max() <= 1e-4
            assert (tokenizer.reconstruct(images) - expected).abs().max() <= 1e-4


def test_reconstructs_as_diffusers_does(published: Path, tmp_path: Path) -> None:
    write_converted(str(published), tmp_path / "out")
    tokenizer = Tokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.config.codebook_size is None
    assert_reconstructs_alike(tokenizer, published)


@pytest.mark.parametrize("form", ["file", "folder", "pickle", "nested pickle", "half"])
def test_the_original_names_in_every_form(published: Path, tmp_path: Path, form: str) -> None:
    """No `config.json` beside them: the layout is read from the tensors."""
    tensors = efficientvit(published)
    source = tmp_path / ("model.pt" if "pickle" in form else "model.safetensors")
    if form == "half":
        tensors = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    if "pickle" in form:
        torch.save({"state_dict": tensors} if "nested" in form else tensors, source)
    else:
        save_file(tensors, source)
    tokenizer, _ = convert(read_source(tmp_path if form == "folder" else source))
    plain, _ = convert(read_source(published))
    assert tokenizer.config == plain.config
    ours = tokenizer.state_dict()
    for key, value in plain.state_dict().items():
        rounded = value.half().float() if form == "half" and value.is_floating_point() else value
        assert torch.equal(ours[key], rounded), key


@pytest.mark.parametrize("norm", [LATENT_NORM, 0.3])
def test_the_norm_is_folded_exactly(published: Path, norm: float) -> None:
    """new.decode(u) is old.decode(s u), for latents that are no encoder's too."""
    source = read_source(published)
    folded, reported = convert(source, codebook_size=32, latent_norm=norm)
    plain, _ = convert(source)  # afterwards: the source is as it was
    assert reported == norm
    assert folded.config.codebook_size == 32
    seeded = torch.Generator().manual_seed(1)
    u = torch.nn.functional.normalize(torch.randn(2, 16, 3, 4, generator=seeded), dim=1)
    with torch.inference_mode():
        old, new = plain.decode(norm * u), folded.decode(u)
        assert (new - old).abs().max() <= 1e-4
        # Scaling the convolution alone, as if there were no shortcut, is not the same.
        plain.decoder.input.weight.mul_(norm)
        assert (plain.decode(u) - old).abs().max() > 1e-2
        # Both encoders point the same way.
        images = pixels(64, 96)
        z = plain.encode(images)
        assert (folded.encode(images) - z / z.norm(dim=1, keepdim=True)).abs().max() <= 1e-5


def test_the_norm_is_measured(published: Path, images: Path) -> None:
    (images / "broken.png").write_text("no image")
    tokenizer, norm = convert(read_source(published), codebook_size=16, images=images)
    plain, _ = convert(read_source(published))
    measured = [
        to_tensor(resize_crop(open_image(path), (256, 256)))[None]
        for path in sorted(images.rglob("*.*"))
        if path.suffix != ".txt" and path.name != "broken.png"
    ]
    with torch.inference_mode():
        expected = torch.cat([plain.encode(image).norm(dim=1) for image in measured]).mean()
    assert norm == pytest.approx(expected.item(), rel=1e-5)
    assert len(measured) == 6
    (images / "x").mkdir()
    with pytest.raises(UsageError, match="no image that can be read"):
        convert(read_source(published), codebook_size=16, images=images / "x")
    with pytest.raises(ValueError, match="at least one image"):
        mean_latent_norm(tokenizer.encoder, [])


def test_codes_are_the_same_every_time(published: Path) -> None:
    state = torch.random.get_rng_state()
    first, second = (convert(read_source(published), codebook_size=8)[0] for _ in range(2))
    assert torch.equal(
        first.get_parameter("quantizer.codebook"), second.get_parameter("quantizer.codebook")
    )
    assert torch.equal(torch.random.get_rng_state(), state)


def smooth(count: int, seed: int) -> torch.Tensor:
    """Images (b, 3, 64, 64) of soft colors: what an autoencoder learns in a minute."""
    coarse = torch.rand(count, 3, 2, 2, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return torch.nn.functional.interpolate(coarse, size=(64, 64), mode="bilinear")


@pytest.fixture(scope="module")
def trained() -> Tokenizer:
    """A continuous autoencoder, trained a little, without any normalization of its latents."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        plain = Tokenizer(replace(PRESETS["tiny"], codebook_size=None))
        optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3)
        for step in range(STEPS):
            images = smooth(8, seed=step + 1)
            loss = torch.nn.functional.mse_loss(plain.reconstruct(images), images)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return plain.eval()


@pytest.mark.slow
@torch.inference_mode()
def test_stage_one_starts_lower_with_the_norm_folded(
    trained: Tokenizer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`pytest -m slow -k starts_lower` prints the three errors: what is kept of a warm start."""
    names = {
        key: their_key(key, trained.config, Family.EFFICIENTVIT) for key in trained.state_dict()
    }
    tensors = {names[key]: value.clone() for key, value in trained.state_dict().items()}
    save_file(tensors, tmp_path / "model.safetensors")
    images = smooth(64, seed=0)
    norm = mean_latent_norm(trained.encoder, [images])
    source = read_source(tmp_path)
    starts = {
        "plain": trained,
        "folded": convert(source, codebook_size=64, latent_norm=norm)[0],
        "unfolded": convert(source, codebook_size=64, latent_norm=1.0)[0],
    }
    error = {
        name: torch.nn.functional.mse_loss(start.reconstruct(images), images).item()
        for name, start in starts.items()
    }
    with capsys.disabled():
        print(f"\nmean latent norm {norm:.3g}; mean squared error on the continuous path:")
        print(", ".join(f"{name} {value:.4f}" for name, value in error.items()))
    assert error["plain"] < 0.5 * images.square().mean()  # it has learnt something
    assert error["folded"] < 0.8 * error["unfolded"]


def test_the_layout_is_the_published_one() -> None:
    """Full size, on the meta device: from tensors alone, in both families, to the presets."""
    for name, config in VARIANTS.items():
        with torch.device("meta"):
            ours = Tokenizer(config).state_dict()
        families = [Family.EFFICIENTVIT] if name == "dc-ht" else list(Family)
        for family in families:
            tensors = {}
            for key, value in ours.items():
                for part in "qkv":
                    theirs = their_key(key, config, family).replace("{q,k,v}", part)
                    tensors[theirs] = value.chunk(3)[0] if "to_" + part in theirs else value
            found = find_layout(tensors, {}, family)
            check_variant(found, name)
            expected = replace(config, residual_std=found.residual_std)
            assert found == expected, (name, family)


def test_the_wrong_variant_is_named(published: Path) -> None:
    kind = published.name.rstrip("0123456789")
    wrong = "sana-1.0" if kind == "mix" else "in-1.0"
    with pytest.raises(CheckpointError, match=f"not {wrong}: its encoder has blocks"):
        convert(read_source(published), variant=wrong)
    with pytest.raises(CheckpointError, match="not dc-ht: its encoder has"):
        convert(read_source(published), variant="dc-ht")
    config = VARIANTS["in-1.0"]
    with pytest.raises(CheckpointError, match="not dc-ht: its encoder has norms"):
        check_variant(config, "dc-ht")
    shallow = replace(config, decoder=replace(config.decoder, depths=[0, 5, 9, 2, 2, 2]))
    with pytest.raises(CheckpointError, match=r"not mix-1\.0: its decoder has depths"):
        check_variant(shallow, "mix-1.0")
    with pytest.raises(CheckpointError, match=r"not in-1\.0: that has no codebook"):
        check_variant(replace(config, codebook_size=64), "in-1.0")


def test_a_key_that_is_missing_or_renamed_is_named(published: Path) -> None:
    """Every 31st of them, in both families."""
    tensors, settings = read_source(published)
    for complete, beside in ((tensors, settings), (efficientvit(published), {})):
        for key in sorted(complete)[::31]:
            fewer = {k: v for k, v in complete.items() if k != key}
            with pytest.raises(CheckpointError) as missing:
                convert(PublishedFiles(fewer, beside))
            with pytest.raises(CheckpointError) as renamed:
                convert(PublishedFiles(fewer | {f"{key}_": complete[key]}, beside))
            assert key in str(missing.value)
            assert f"{key} is missing" in str(renamed.value) or f"{key}_" in str(renamed.value)


def test_other_shapes_and_odd_keys_are_named(published: Path) -> None:
    tensors, settings = read_source(published)
    wide = tensors | {"decoder.conv_in.bias": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"decoder.conv_in.bias has shape \(3,\).*\(64,\)"):
        convert(PublishedFiles(wide, settings))
    with pytest.raises(CheckpointError, match=r"1 keys have no place.*quant_conv.weight"):
        convert(PublishedFiles(tensors | {"quant_conv.weight": torch.zeros(1)}, settings))
    depths = settings | {"decoder_layers_per_block": [0, 3, 3, 3, 3, 3]}
    with pytest.raises(CheckpointError, match="decoder_layers_per_block is"):
        convert(PublishedFiles(tensors, depths))
    with pytest.raises(CheckpointError, match="no DC-AE checkpoint; one has a key like"):
        convert(PublishedFiles({"conv.weight": torch.zeros(1)}, {}))


def test_sources_that_are_none(published: Path, tmp_path: Path) -> None:
    def refuse(source: Path | str, match: str) -> None:
        with pytest.raises(CheckpointError, match=match):
            read_source(source)

    refuse("./nowhere", "neither a folder nor a Hub id")
    refuse(tmp_path, "has no weights, nor has a vae/ in it; expected one of model.safetensors")
    bad = tmp_path / "model.safetensors"
    bad.write_bytes(b"nothing")
    refuse(bad, "is damaged")
    pickled = tmp_path / "model.pt"
    pickled.write_bytes(b"nothing")
    refuse(pickled, "is no file of plain tensors")
    torch.save({"model": PRESETS["tiny"]}, pickled)  # an object: running code could hide in it
    refuse(pickled, "is no file of plain tensors")
    torch.save({"step": 3}, pickled)
    refuse(pickled, "holds no state dict")
    torch.save({"weight": torch.zeros(2)}, pickled)
    (tmp_path / "config.json").write_text("{")
    refuse(pickled, "is not JSON")


def test_a_hub_id_is_read_from_the_cache(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--offline` with what an earlier download left."""
    cache = tmp_path / "models--someone--dc-ae"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0" * 40)
    shutil.copytree(published, cache / "snapshots" / ("0" * 40))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert read_source("someone/dc-ae").settings == read_source(published).settings


Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dcht(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, in this process: exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["dcht", "convert", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


def test_the_command(dcht: Command, published: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = (published, "--out", out, "--codebook", 16, "--calibrate", images, "--json")
    code, printed, errors = dcht(*words)
    assert code == 0, errors
    record = json.loads(printed)
    tokenizer = Tokenizer.from_pretrained(out)
    assert record["sha256"] == tokenizer.sha256
    assert tokenizer.config.codebook_size == 16
    assert record["folded_latent_norm"] > 0
    written = (out / "model.safetensors").stat().st_mtime_ns
    assert json.loads(dcht(*words)[1]) == record
    assert (out / "model.safetensors").stat().st_mtime_ns == written  # finished: nothing to do
    code, _, errors = dcht(published, "--out", out)
    assert (code, errors.count("\n")) == (2, 1)
    assert "use --force or another --out" in errors
    assert dcht(published, "--out", out, "--force")[0] == 0
    assert Tokenizer.from_pretrained(out).config.codebook_size is None


@pytest.mark.parametrize("change", ["painted", "added", "removed"])
def test_calibrated_on_other_images_is_refused(
    dcht: Command, published: Path, images: Path, tmp_path: Path, change: str
) -> None:
    """Also at equal names, sizes and times. The same images, written again, are the same."""
    out = tmp_path / "out"
    words = (published, "--out", out, "--codebook", 16, "--calibrate", images, "--json")
    first = json.loads(dcht(*words)[1])
    content = (images / "d.bmp").read_bytes()
    (images / "d.bmp").write_bytes(content)
    os.utime(images / "d.bmp", (1, 1))
    assert json.loads(dcht(*words)[1]) == first
    if change == "painted":
        (images / "d.bmp").write_bytes(content[:54] + bytes(255 - byte for byte in content[54:]))
        os.utime(images / "d.bmp", (1, 1))
    elif change == "added":
        (images / "x.bmp").write_bytes(content)
    else:
        (images / "d.bmp").unlink()
    code, _, errors = dcht(*words)
    assert (code, errors.count("\n")) == (2, 1)
    assert "was begun with calibrate_sha256 '" in errors and "use --force" in errors
    code, printed, _ = dcht(*words, "--force")
    assert code == 0
    assert json.loads(printed)["folded_latent_norm"] != first["folded_latent_norm"]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["./no", "--out", "x"], 4, "neither a folder nor a Hub id"),
        (["nobody/nothing", "--out", "x", "--offline"], 4, "could not be fetched from the Hub"),
        ([".", "--out", "x", "--latent-norm", "2"], 2, "need --codebook"),
        ([".", "--out", "x", "--codebook", "8", "--latent-norm", "-1"], 2, "not a positive number"),
        ([".", "--out", "x", "--codebook", "8", "--calibrate", "no"], 2, "no is not a folder"),
        ([".", "--out", "x", "--variant", "in-2.0"], 2, "invalid choice"),
    ],
)
def test_mistakes_are_one_line(
    dcht: Command, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, message: str
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # what --offline sets, put back afterwards
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ended, printed, errors = dcht(*words)
    assert (ended, printed) == (code, "")
    assert message in errors
