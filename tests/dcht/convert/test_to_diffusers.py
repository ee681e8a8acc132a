"""diffusers to dcht and back: equal weights, equal outputs; and every form its files come in."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dcht import PRESETS, CheckpointError, Tokenizer, UsageError
from dcht.cli import main
from dcht.config import Block, Norm, TokenizerConfig
from dcht.convert.published import convert, describe, write_converted
from dcht.convert.sources import find_weights, read_source, source_sha256
from dcht.convert.to_diffusers import autoencoder_config, write_autoencoder

WEIGHTS = "diffusion_pytorch_model.safetensors"
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def dcht(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, in this process: exit code, stdout and stderr."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["dcht", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return run


@pytest.fixture
def scaled(published: Path, tmp_path: Path) -> Path:
    """With the scaling factor of DC-AE in-1.0, which is no part of our config."""
    folder = tmp_path / "scaled"
    shutil.copytree(published, folder)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"scaling_factor": 0.3189}))
    return folder


def sharded(folder: Path, out: Path) -> Path:
    """The same weights in three files with an index, as diffusers writes large ones."""
    tensors = load_file(folder / WEIGHTS)
    out.mkdir(parents=True)
    names = [f"diffusion_pytorch_model-0000{k}-of-00003.safetensors" for k in (1, 2, 3)]
    placed = {key: names[number % 3] for number, key in enumerate(sorted(tensors))}
    for name in names:
        save_file({key: tensors[key] for key in placed if placed[key] == name}, out / name)
    index = {"metadata": {"total_size": 1}, "weight_map": placed}
    (out / f"{WEIGHTS}.index.json").write_text(json.dumps(index))
    shutil.copy(folder / "config.json", out)
    return out


@torch.inference_mode()
def test_there_and_back_nothing_changes(scaled: Path, tmp_path: Path) -> None:
    """diffusers -> dcht -> diffusers: equal weights and settings; outputs within 1e-5."""
    from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC

    write_converted(str(scaled), tmp_path / "ours")
    found = write_autoencoder(str(tmp_path / "ours"), tmp_path / "theirs")
    assert found.scaling_factor == 0.3189
    before, after = load_file(scaled / WEIGHTS), load_file(tmp_path / "theirs" / WEIGHTS)
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert torch.equal(after[key], value), key
    first = AutoencoderDC.from_pretrained(scaled)
    kind: Any = AutoencoderDC  # its type does not know of loading info
    second, report = kind.from_pretrained(tmp_path / "theirs", output_loading_info=True)
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys"))
    known = dict(first.config)
    for key, value in known.items():
        if not key.startswith("_"):
            again = second.config[key]
            sequence = isinstance(again, (list, tuple))
            whole = [value] * len(again) if sequence and isinstance(value, str) else value
            assert json.dumps(again) == json.dumps(whole), key
    ours = Tokenizer.from_pretrained(tmp_path / "ours")
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1)) * 2 - 1
    z = first.encode(images, return_dict=False)[0]
    assert torch.equal(second.encode(images, return_dict=False)[0], z)
    assert (ours.encode(images) - z).abs().max() <= 1e-5 * z.abs().max()
    decoded = first.decode(z, return_dict=False)[0]
    assert torch.equal(second.decode(z, return_dict=False)[0], decoded)
    assert (ours.decode(z) - decoded).abs().max() <= 1e-5 * decoded.abs().max()


@pytest.mark.parametrize("form", ["sharded", "index", "pipeline", "sharded pipeline"])
def test_every_form_gives_the_same(mix: Path, tmp_path: Path, form: str) -> None:
    source = tmp_path / "source"
    if form in ("sharded", "index"):
        sharded(mix, source)
    elif form == "pipeline":
        shutil.copytree(mix, source / "vae")
    else:
        sharded(mix, source / "vae")
    if "pipeline" in form:  # what else such a folder holds is not looked at
        (source / "transformer").mkdir()
        (source / "transformer" / WEIGHTS).write_bytes(b"no tensors")
        (source / "model_index.json").write_text("{}")
    name = source / f"{WEIGHTS}.index.json" if form == "index" else source
    found, plain = convert(read_source(name))[0], convert(read_source(mix))[0]
    assert found.config == plain.config
    for key, value in plain.state_dict().items():
        assert torch.equal(found.state_dict()[key], value), key


def test_a_pipeline_is_read_from_the_hub(
    mix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sharded(mix, tmp_path / "snapshot" / "vae")
    asked: list[list[str]] = []

    def download(name: str, *, allow_patterns: list[str], **_: object) -> str:
        asked.append(allow_patterns)
        return str(tmp_path / "snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    assert find_weights("me/pipeline") == tmp_path / "snapshot" / "vae" / f"{WEIGHTS}.index.json"
    (patterns,) = asked
    for name in (f"vae/{WEIGHTS}", "vae/config.json", "vae/*-of-*.safetensors"):
        assert name in patterns
    assert not any(name.endswith((".bin", ".pt")) for name in patterns)


def test_every_file_of_several_counts(mix: Path, tmp_path: Path) -> None:
    """The hash that decides whether a conversion is finished is of all of them."""
    folder = sharded(mix, tmp_path / "source")
    before = source_sha256(folder)
    part = folder / "diffusion_pytorch_model-00002-of-00003.safetensors"
    tensors = load_file(part)
    tensors[min(tensors)] += 1
    save_file(tensors, part)
    assert source_sha256(folder) != before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda index: {"weight_map": {}}, "has an empty weight_map"),
        (lambda index: {}, "has no weight_map"),
        (lambda index: {"weight_map": {"a": 3}}, "has no weight_map"),
        (lambda index: {"weight_map": {"a": "../x.safetensors"}}, "expected a .safetensors file"),
        (lambda index: {"weight_map": {"a": "model.bin"}}, "expected a .safetensors file"),
        (lambda index: {"weight_map": {"a": "no.safetensors"}}, "which is not there"),
        (
            lambda index: {"weight_map": index["weight_map"] | {"decoder.more": "PART"}},
            "do not agree on decoder.more",
        ),
    ],
)
def test_an_index_that_is_wrong_is_one_line(
    mix: Path, tmp_path: Path, damage: Callable[[dict], dict], message: str
) -> None:
    folder = sharded(mix, tmp_path / "source")
    path = folder / f"{WEIGHTS}.index.json"
    part = "diffusion_pytorch_model-00001-of-00003.safetensors"
    wrong = damage(json.loads(path.read_text()))
    path.write_text(json.dumps(wrong).replace("PART", part))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_source(folder)
    assert "\n" not in str(caught.value)


def test_the_commands_say_what_they_made(dcht: Command, mix: Path, tmp_path: Path) -> None:
    out = tmp_path / "ours"
    code, printed, _ = dcht("convert", mix, "--out", out, "--dtype", "bfloat16")
    sha256 = Tokenizer.from_pretrained(out).sha256 or ""
    parameters = sum(p.numel() for p in Tokenizer.from_pretrained(out).parameters())
    assert code == 0
    assert printed.splitlines() == [
        f"{out}: {sha256[:12]}, a layout of its own, {parameters / 1e6:.2f} M parameters in "
        "bfloat16, no codebook",
        f"next: dcht encode images/ --ckpt {out} --out latents/",
    ]
    stored = load_file(out / "model.safetensors")
    assert {v.dtype for v in stored.values() if v.is_floating_point()} == {torch.bfloat16}
    # Another type is another conversion.
    assert dcht("convert", mix, "--out", out)[0] == 2
    theirs = tmp_path / "theirs"
    words = ("export", "--to", "diffusers", "--ckpt", out, "--out", theirs, "--json")
    code, printed, _ = dcht(*words)
    found = json.loads(printed)
    assert (code, found["tokenizer"], found["scaling_factor"]) == (0, sha256, 1.0)
    assert found["files"] == ["config.json", WEIGHTS]
    written = (theirs / WEIGHTS).stat().st_mtime_ns
    assert dcht(*words)[:2] == (0, printed)  # finished: nothing to do
    assert (theirs / WEIGHTS).stat().st_mtime_ns == written


def test_random_codes_are_to_be_trained_next(mix: Path, tmp_path: Path) -> None:
    write_converted(str(mix), tmp_path / "start", codebook_size=16)
    made = describe(tmp_path / "start")
    assert made.codes == 16
    assert made.next_command.startswith("dcht-train ")
    assert f"init_from={tmp_path / 'start'}" in made.next_command


@pytest.mark.parametrize(
    ("preset", "layouts"), [("dc_ae_mix", ["in-1.0", "mix-1.0"]), ("dc_ae_sana", ["sana-1.0"])]
)
def test_a_published_layout_is_named(preset: str, layouts: list[str], tmp_path: Path) -> None:
    """From `config.json` alone: the weights are never built."""
    from dcht.checkpoint import to_written

    (tmp_path / "config.json").write_text(json.dumps(to_written(PRESETS[preset])))
    made = describe(tmp_path)
    assert made.layouts == layouts
    assert round(made.parameters / 1e6, 2) == {"dc_ae_mix": 323.36, "dc_ae_sana": 312.25}[preset]


def plain(**changes: object) -> TokenizerConfig:
    return replace(PRESETS["tiny"], codebook_size=None, **changes)  # type: ignore[arg-type]


def test_what_diffusers_has_not_is_refused(saved_tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has 64 codes"):
        write_autoencoder(str(saved_tokenizer), tmp_path / "x")
    assert not (tmp_path / "x").exists()
    decoder = plain().decoder
    layer = replace(decoder, norms=[Norm.BATCH] * 3 + [Norm.LAYER] * 3)
    with pytest.raises(UsageError, match=r"decoder has ln2d in stage 3 \(evit\)"):
        autoencoder_config(plain(decoder=layer), 1.0)
    batch = replace(plain().encoder, norms=[Norm.BATCH] * 6)
    with pytest.raises(UsageError, match=r"encoder has bn2d in stage 1 \(res\)"):
        autoencoder_config(plain(encoder=batch), 1.0)
    with pytest.raises(UsageError, match="decoder ends with ln2d"):
        autoencoder_config(plain(decoder=replace(decoder, output_norm=Norm.LAYER)), 1.0)
    assert autoencoder_config(plain(), 0.5)["decoder_qkv_multiscales"] == [[]] * 6
    wide = replace(plain().encoder, blocks=[Block.RES] * 3 + [Block.EVIT5] * 3)
    assert autoencoder_config(plain(encoder=wide), 1.0)["encoder_qkv_multiscales"][3:] == [[5]] * 3
