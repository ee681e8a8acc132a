"""What the weights of a release made, beside the weights of another one that is installed now."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import dcar
from dcar import DCAR, TextToImage
from dcar.cli import main as run_dcar
from dcar.config import PRESETS, CheckpointConfig, SamplingConfig
from dcar.data import LatentSource
from dcar.modules.text import TextEncoder, word_tokenizer
from dcar.train.start import layouts_of
from dcar.weights import pretrained
from dcar.weights.pretrained import refer_to_tokenizer, save_pretrained
from dcht import CheckpointError, Tokenizer
from dcht.checkpoint import checkpoint_sha256
from dcht.errors import UsageError
from dcht.latents import LatentsStore
from dcht.latents.decode import decode_store
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings
from dcht.releases import GENERATOR, RELEASES, TOKENIZER, holder

HERE = Path(__file__).parent
OLD = RELEASES["0.1.0"]
COMMIT = "5537f67"
"""Whose packages bundle the weights of release 0.1.0."""
PLACES = {TOKENIZER: "packages/dcht/src", GENERATOR: "packages/dcar/src"}


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """The weights of 0.1.0 as its two wheels have them, unpacked into one folder."""
    folder = tmp_path / "wheels"
    for place, source in PLACES.items():
        bundled = HERE.parent / source / place
        if bundled.is_dir() and checkpoint_sha256(bundled) == OLD[place]:
            shutil.copytree(bundled, folder / place)
            continue
        command = ["git", "archive", COMMIT, f"{source}/{place}"]
        archive = subprocess.run(command, cwd=HERE.parent, capture_output=True, check=False)
        if archive.returncode:
            pytest.skip(f"{place} of 0.1.0 is not bundled here, and {COMMIT} is not in this clone")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as tar:
            tar.extractall(tmp_path / "archive", filter="data")
        shutil.copytree(tmp_path / "archive" / source / place, folder / place)
    assert {place: checkpoint_sha256(folder / place) for place in OLD} == OLD
    return folder


@pytest.fixture
def installed(
    tokenizer: Tokenizer, saved_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> TextToImage:
    """A later release is installed: it bundles other weights."""
    config, folder = PRESETS["tiny"], tmp_path / "installed"
    assert config.text.joint is not None
    words = word_tokenizer(["a red apple"], config.text.joint)
    text = TextEncoder.joint(config.text, config.generator, words)
    reference = refer_to_tokenizer(
        Tokenizer.from_pretrained(saved_tokenizer), str(saved_tokenizer), folder
    )
    sampling = SamplingConfig(num_steps=2, num_diffusion_steps=8)
    checkpoint = CheckpointConfig(
        model=config, tokenizer=reference, sampling=sampling, height=64, width=64
    )
    save_pretrained(folder, DCAR(config), text, checkpoint)
    for module in ("dcar.weights.pretrained.BUNDLED_TOKENIZER", "dcht.tokenizer.BUNDLED"):
        monkeypatch.setattr(module, saved_tokenizer)
    monkeypatch.setattr(pretrained, "BUNDLED", folder)
    return TextToImage.from_pretrained()


def test_every_release_is_in_the_table() -> None:
    """Whoever replaces the weights adds theirs."""
    bundled = {place: HERE.parent / source / place for place, source in PLACES.items()}
    found = {place: checkpoint_sha256(folder) for place, folder in bundled.items()}
    assert RELEASES[dcar.__version__] == found


def test_what_ships_can_be_named() -> None:
    """`--ckpt bundled`, as `init_from=bundled` of the trainers."""
    ours = RELEASES[dcar.__version__]
    assert Tokenizer.from_pretrained("bundled").sha256 == ours[TOKENIZER]
    assert TextToImage.from_pretrained("bundled").sha256 == ours[GENERATOR]


def test_a_hash_is_told_where_it_is_held() -> None:
    assert holder(OLD[GENERATOR]) == f"; release 0.1.0 holds it: {GENERATOR} in its wheel"
    assert holder("f" * 64) == holder(None) == ""


def test_an_old_image_is_replayed_with_the_old_weights_byte_for_byte(
    wheels: Path,
    installed: TextToImage,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old, out = HERE / "release-0.1.0.png", tmp_path / "again.png"

    def replay(*words: str, image: Path = old, out: Path = out) -> int:
        monkeypatch.setattr("sys.argv", ["dcar", "replay", str(image), "--out", str(out), *words])
        with pytest.raises(SystemExit) as stop:
            run_dcar()
        return int(stop.value.code or 0)

    assert replay() == 4
    told = capsys.readouterr().err
    assert OLD[GENERATOR] in told and str(installed.sha256) in told
    assert f"release 0.1.0 holds it: {GENERATOR} in its wheel" in told
    held = ("--ckpt", str(wheels / GENERATOR))
    assert replay(*held) == 0
    # Another kind of CPU rounds otherwise; on one machine the bytes are the same.
    pixels = [np.asarray(Image.open(path), dtype=int) for path in (old, out)]
    assert abs(pixels[0] - pixels[1]).max() <= 1
    assert replay(*held, image=out, out=tmp_path / "third.png") == 0
    assert (tmp_path / "third.png").read_bytes() == out.read_bytes()


def test_an_old_generator_needs_its_own_tokenizer(
    wheels: Path, installed: TextToImage, tmp_path: Path
) -> None:
    """Also a user's, which says that its tokenizer is bundled; beside it or inside it."""
    alone = tmp_path / "mine"
    shutil.copytree(wheels / GENERATOR, alone)
    with pytest.raises(CheckpointError) as refused:
        TextToImage.from_pretrained(alone)
    told = str(refused.value)
    assert OLD[TOKENIZER] in told and str(installed.tokenizer.sha256) in told
    assert f"copy that one to {alone / 'tokenizer'}; release 0.1.0 holds it: {TOKENIZER}" in told
    wanted = SimpleNamespace(init_from=str(alone), tokenizer_ckpt=None)
    with pytest.raises(CheckpointError, match=f"needs .*{OLD[TOKENIZER]}"):
        layouts_of(wanted)
    shutil.copytree(wheels / TOKENIZER, alone / "tokenizer")
    assert TextToImage.from_pretrained(alone).tokenizer.sha256 == OLD[TOKENIZER]
    assert layouts_of(wanted)["tokenizer_ckpt"] == str(alone / "tokenizer")
    beside = TextToImage.from_pretrained(wheels / GENERATOR)
    assert (beside.sha256, beside.tokenizer.sha256) == (OLD[GENERATOR], OLD[TOKENIZER])


def test_an_old_store_is_told_whose_it_is(
    wheels: Path, installed: TextToImage, tmp_path: Path
) -> None:
    images, folder = tmp_path / "images", tmp_path / "store"
    images.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(images / "a.png")
    (images / "a.txt").write_text("a red apple\n")
    old = Tokenizer.from_pretrained(wheels / TOKENIZER)
    encode_images(old, images, folder, EncodeSettings(size=(64, 64)))
    told = f"{OLD[TOKENIZER]}.*{installed.tokenizer.sha256}.*release 0.1.0 holds it: {TOKENIZER}"
    with pytest.raises(CheckpointError, match=told):
        decode_store(installed.tokenizer, LatentsStore(folder), tmp_path / "out")
    with pytest.raises(CheckpointError, match=told):
        LatentSource(str(folder), installed.tokenizer)
    with pytest.raises(UsageError, match=told):
        encode_images(installed.tokenizer, images, folder, EncodeSettings(size=(64, 64)))
    assert decode_store(old, LatentsStore(folder), tmp_path / "out") == 1
    assert LatentSource(str(folder), old).captions
