"""The published release as one of our checkpoints: keys at full size, and a small one to a PNG."""

import json
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer as WordTokenizer
from tokenizers import models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from dcar import DCAR, TextToImage, cli
from dcar.config import Rounding
from dcar.modules.text import TextEncoder
from dcar.sampling_config import HeadGuidance
from dcar.weights.release import convert_config, convert_tensors
from dcar.weights.release_keys import convert_generator
from dcht import CheckpointError, Tokenizer
from dcht.convert.published import convert
from dcht.convert.sources import PublishedFiles, read_source
from dcht.images import read_png_text, to_pil

SHARED = Path(__file__).parents[2] / "shared" / "fixtures" / "release"
CASES = Path(os.environ.get("RELEASE_FIXTURES", SHARED))
PARTS = ("generator", "tokenizer", "text/t5_tiny")
pytestmark = pytest.mark.skipif(
    not all((CASES / part).is_dir() for part in PARTS), reason=f"no fixtures at {CASES}"
)


def keys(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a published file, without their values."""
    path = SHARED / f"keys_{name}.json"
    if not path.exists():
        pytest.skip(f"no {path}")
    found = json.loads(path.read_text())["keys"]
    return {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta")
        for key, (shape, dtype) in found.items()
    }


def test_the_generator_s_573_keys_make_dc_ar_512() -> None:
    tensors = keys("dc_ar_512")
    assert len(tensors) == 573
    parts = convert_generator(PublishedFiles(tensors, {}))
    # Strict: none is unused but the positions, which are computed; none is missing.
    assert sum(p.numel() for p in parts.model.parameters()) == 671_558_592 - 294_912
    assert parts.model.generator.null_text.shape == (300, 768)
    assert parts.side == 512
    sampling = parts.sampling
    assert (sampling.temperature, sampling.num_diffusion_steps) == (1.5, 32)
    assert sampling.logit_annealing and sampling.head_guidance is HeadGuidance.release
    assert parts.model.config.head.residual_std == 0.107


def test_the_tokenizer_s_339_keys_make_dc_ht() -> None:
    tensors = keys("dc_ht")
    assert len(tensors) == 339
    tokenizer, _ = convert(PublishedFiles(tensors, {}), variant="dc-ht")
    assert sum(p.numel() for p in tokenizer.parameters()) == 323_880_748


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("blocks.3.attn.q_norm.weight", "blocks.3.attn.norm_q.weight", r"blocks\.3\.attn\.norm_q"),
        ("blocks.27.mlp.fc1.bias", "blocks.28.mlp.fc1.bias", r"blocks\.27\.mlp\.fc1\.bias"),
        ("x_embedder.weight", "x_embedding.weight", r"x_embedding\.weight is no tensor of the"),
    ],
)
def test_a_key_renamed_by_hand_is_named(old: str, new: str, message: str) -> None:
    tensors = keys("dc_ar_512")
    tensors[new] = tensors.pop(old)
    with pytest.raises(CheckpointError, match=message):
        convert_generator(PublishedFiles(tensors, {}))


def test_a_shape_that_does_not_fit_is_named() -> None:
    tensors = keys("dc_ar_512")
    tensors["x_embedder.weight"] = tensors["x_embedder.weight"][:100]
    with pytest.raises(CheckpointError, match=r"embedding\.weight \(100, 1152\), expected"):
        convert_generator(PublishedFiles(tensors, {}))


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The fixtures' T5 with a tokenizer of its vocabulary's size."""
    folder = tmp_path_factory.mktemp("t5")
    for file in (CASES / "text" / "t5_tiny").iterdir():
        shutil.copy(file, folder)
    words = ["<pad>", "</s>", "<unk>", "a", "red", "apple", "blue", "car"]
    tokenizer = WordTokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small random release as it is published: a pickle of tensors, and a tokenizer folder."""
    folder = tmp_path_factory.mktemp("pretrained_models")
    for name, part, files in (
        ("dc-ar-512", "generator", {"config.json": "", "pytorch_model.bin": ""}),
        ("dc-ht", "tokenizer", {"config.json": "", "weights.safetensors": "model.safetensors"}),
    ):
        (folder / name).mkdir()
        for file, renamed in files.items():
            shutil.copy(CASES / part / file, folder / name / (renamed or file))
            (folder / name / (renamed or file)).chmod(0o644)
    return folder


@pytest.fixture
def dcar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `dcar` in this process: (exit code, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["dcar", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        output = capsys.readouterr()
        return int(stop.value.code or 0), output.out, output.err

    return call


def test_a_release_becomes_a_checkpoint_that_draws(
    dcar: Any, release: Path, t5: Path, tmp_path: Path
) -> None:
    out, png = tmp_path / "ours", tmp_path / "apple.png"
    convert_words = ("convert", "--from", "release", release, "--text", t5, "--out", out)
    code, stdout, stderr = dcar(*convert_words, "--json")
    assert code == 0, stderr
    assert stderr.count("non-commercial use only") == 1
    card = (out / "README.md").read_text()
    assert "3.3 Use Limitation." in card and "non-commercial use only" in card
    assert "safety google/shieldgemma-2b" in card
    sha256 = json.loads(stdout)["sha256"]
    before = (out / "model.safetensors").stat().st_mtime_ns
    assert json.loads(dcar(*convert_words, "--json")[1])["sha256"] == sha256
    assert (out / "model.safetensors").stat().st_mtime_ns == before
    assert dcar("convert", "--from", "release", release, "--out", out)[0] == 2

    code, _, stderr = dcar(
        "generate", "a red apple", "--ckpt", out, "--size", "128x64", "--out", png
    )
    assert code == 0, stderr
    record = json.loads(read_png_text(png)["dcar"])
    assert record["weights"] == sha256
    # As the scripts of the release, which read them from this file.
    settings = json.loads((release / "dc-ar-512" / "config.json").read_text())["model"]
    theirs = settings["generator"]
    for name, value in {
        "temperature": theirs["randomize_temperature"],
        "num_steps": theirs["num_steps"],
        "num_diffusion_steps": int(theirs["diffusion"]["num_sampling_steps"]),
    }.items():
        assert record["settings"][name] == value, name
    again = tmp_path / "again.png"
    assert dcar("replay", png, "--ckpt", out, "--out", again)[0] == 0
    assert again.read_bytes() == png.read_bytes()

    # The folder may move: its tokenizer is inside.
    pipe = TextToImage.from_pretrained(shutil.move(out, tmp_path / "moved"))
    side = 32 * math.isqrt(theirs["image_seq_len"])
    assert pipe.rounding is Rounding.down and pipe.size == (side, side)
    assert isinstance(pipe.text, TextEncoder)
    assert not pipe.text.sees_mask and pipe.text.length == settings["text_token_length"]
    model = DCAR(convert_config(settings))
    weights = load_file(CASES / "generator" / "weights.safetensors")
    model.load_state_dict(convert_tensors(weights), strict=True)
    for key, value in model.state_dict().items():
        assert torch.equal(pipe.model.state_dict()[key], value), key
    tokenizer, _ = convert(read_source(release / "dc-ht"))
    for key, value in tokenizer.state_dict().items():
        assert torch.equal(pipe.tokenizer.state_dict()[key], value), key


def test_both_parts_may_be_named_apart(dcar: Any, release: Path, t5: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(release / "dc-ar-512", bare)
    words = ("convert", "--from", "release", bare, "--text", t5, "--out", tmp_path / "a")
    code, _, stderr = dcar(*words)
    assert code == 4 and "does not hold dc-ar-512/ and dc-ht/" in stderr
    assert dcar(*words, "--tokenizer", release / "dc-ht")[0] == 0
    assert (tmp_path / "a" / "tokenizer" / "model.safetensors").exists()


def test_a_pickle_that_is_more_than_tensors_is_refused(
    dcar: Any, release: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "bad"
    shutil.copytree(release, folder)
    torch.save({"x": Path("x")}, folder / "dc-ar-512" / "pytorch_model.bin")
    code, _, stderr = dcar("convert", "--from", "release", folder, "--out", tmp_path / "a")
    assert code == 4 and "is no file of plain tensors" in stderr and stderr.count("\n") == 1
    assert not (tmp_path / "a").exists()


def test_a_tokenizer_that_the_generator_was_not_trained_on_is_refused(
    dcar: Any, release: Path, t5: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "other"
    shutil.copytree(release, folder)
    path = folder / "dc-ar-512" / "config.json"
    settings = json.loads(path.read_text())
    codes, channels = (settings["model"]["vq_model"][k] for k in ("codebook_size", "token_size"))
    settings["model"]["vq_model"]["codebook_size"] = codes - 1
    path.write_text(json.dumps(settings))
    tensors = load_file(CASES / "generator" / "weights.safetensors")
    for key in ("x_embedder.weight", "final_layer.linear.weight", "final_layer.linear.bias"):
        tensors[key] = tensors[key][:-1].clone()
    torch.save(tensors, folder / "dc-ar-512" / "pytorch_model.bin")
    code, _, stderr = dcar("convert", "--from", "release", folder, "--out", tmp_path / "a")
    assert code == 4 and f"has {channels} channels and {codes} codes" in stderr


@pytest.mark.parametrize(
    "path", sorted((CASES / "tokenizer").glob("case_*.safetensors")), ids=lambda path: path.stem
)
@torch.inference_mode()
def test_pixels_are_cut_off_as_there(path: Path) -> None:
    case = load_file(path)
    if "uint8_zq_plus_residual" not in case:
        pytest.skip(f"{path.name} has no image of 8 bits")
    tokenizer: Tokenizer = convert(read_source(CASES / "tokenizer"))[0]
    decoded = tokenizer.decode(case["z"])
    for pixels, expected in zip(decoded, case["uint8_zq_plus_residual"], strict=True):
        image = to_pil(pixels, truncate=True)
        theirs = Image.fromarray(expected.movedim(0, 2).contiguous().numpy())
        pairs = list(zip(image.tobytes(), theirs.tobytes(), strict=True))
        assert max(abs(a - b) for a, b in pairs) <= 1
        assert sum(a != b for a, b in pairs) <= len(pairs) / 1000
