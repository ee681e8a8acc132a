import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dcar import DCAR
from dcar.config import CheckpointConfig, SamplingConfig, TokenizerReference
from dcar.modules.text import TextEncoder
from dcar.weights import pretrained as module
from dcar.weights.pretrained import (
    find_tokenizer,
    load_pretrained,
    load_tokenizer,
    refer_to_tokenizer,
    save_pretrained,
)
from dcht import CheckpointError, Tokenizer
from dcht.checkpoint import checkpoint_sha256


def settings(model: DCAR, reference: TokenizerReference) -> CheckpointConfig:
    return CheckpointConfig(
        model=model.config,
        tokenizer=reference,
        sampling=SamplingConfig(num_steps=3),
        height=64,
        width=96,
    )


@pytest.fixture
def saved(model: DCAR, text: TextEncoder, saved_tokenizer: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "generator"
    tokenizer = Tokenizer.from_pretrained(saved_tokenizer)
    reference = refer_to_tokenizer(tokenizer, str(saved_tokenizer), folder)
    save_pretrained(folder, model, text, settings(model, reference))
    return folder


def test_round_trip(saved: Path, model: DCAR, text: TextEncoder) -> None:
    found = load_pretrained(saved)
    assert found.config.model == model.config and found.config.sampling.num_steps == 3
    for key, tensor in model.state_dict().items():
        assert torch.equal(found.model.state_dict()[key], tensor), key
    tokens, again = (part.tokenize(["a red apple"]) for part in (text, found.text))
    assert torch.equal(tokens.ids, again.ids)
    assert torch.equal(text(*tokens), found.text(*again))
    assert sorted(path.name for path in saved.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
    families = {key.split(".")[0] for key in load_file(saved / "model.safetensors")}
    assert families == {"generator", "head", "text"}


def test_half_precision_halves_the_file_and_loads_as_fp32(
    saved: Path, model: DCAR, text: TextEncoder, tmp_path: Path
) -> None:
    config = load_pretrained(saved).config
    half = tmp_path / "half"
    save_pretrained(half, model, text, config, dtype=torch.float16)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (saved, half)]
    assert sizes[1] < 0.65 * sizes[0]
    weight = load_pretrained(half).model.generator.embedding.weight
    assert weight.dtype == torch.float32
    assert torch.equal(weight, model.generator.embedding.weight.half().float())


def test_the_image_tokenizer_is_found_from_the_checkpoint(
    saved: Path, saved_tokenizer: Path
) -> None:
    found = load_pretrained(saved)
    assert not Path(found.config.tokenizer.location).is_absolute()
    tokenizer = load_tokenizer(found.config.tokenizer, found.folder)
    assert tokenizer.sha256 == Tokenizer.from_pretrained(saved_tokenizer).sha256


@pytest.mark.parametrize("place", ["elsewhere/runs/a", "elsewhere/b/c/d", "."])
def test_the_image_tokenizer_is_found_through_a_link(
    saved: Path,
    saved_tokenizer: Path,
    place: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A folder on a larger disk: `..` behind the link is not where the link lies."""
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    link = tmp_path / place / "linked"
    link.symlink_to(saved, target_is_directory=True)
    reference = load_pretrained(link).config.tokenizer
    for here in (tmp_path, link.parent, link):  # the process may stand anywhere
        monkeypatch.chdir(here)
        found = find_tokenizer(reference, Path(os.path.relpath(link)))
        assert found is not None and Path(found).samefile(saved_tokenizer)
    assert load_tokenizer(reference, link).sha256 == reference.sha256


def test_another_image_tokenizer_is_refused_with_both_hashes(
    saved: Path, saved_tokenizer: Path, tokenizer: Tokenizer
) -> None:
    reference = load_pretrained(saved).config.tokenizer
    with torch.no_grad():
        tokenizer.get_parameter("quantizer.codebook").add_(1)
    other = tokenizer.save_pretrained(saved_tokenizer)
    with pytest.raises(CheckpointError, match=f"{reference.sha256}.*{other}"):
        load_tokenizer(reference, saved)


def test_the_bundled_tokenizer_is_preferred_and_named(
    saved: Path, saved_tokenizer: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reference = load_pretrained(saved).config.tokenizer
    bundled = tmp_path / "bundled"
    saved_tokenizer.rename(bundled)
    with pytest.raises(CheckpointError):
        load_tokenizer(reference, saved)
    monkeypatch.setattr(module, "BUNDLED_TOKENIZER", bundled)
    monkeypatch.setattr("dcht.tokenizer.BUNDLED", bundled)
    assert load_tokenizer(reference, saved).sha256 == reference.sha256
    again = refer_to_tokenizer(Tokenizer.from_pretrained(bundled), str(bundled), saved)
    assert again.location == "bundled"
    stranger = TokenizerReference(sha256="f" * 64, location="bundled")
    with pytest.raises(CheckpointError, match=f"{'f' * 64}.*bundles {reference.sha256}"):
        load_tokenizer(stranger, saved)


def test_an_installation_without_a_bundled_generator_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "BUNDLED", tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="bundles no generator; name one"):
        load_pretrained(None)


def test_damage_is_named(saved: Path) -> None:
    path = saved / "model.safetensors"
    tensors = load_file(path)
    renamed = {k.replace("to_logits", "to_logit"): v for k, v in tensors.items()}
    save_file(renamed, path)
    with pytest.raises(CheckpointError, match=r"missing: generator\.to_logits\.bias"):
        load_pretrained(saved)
    save_file(tensors, path)
    (saved / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json cannot be read"):
        load_pretrained(saved)
    config = json.loads((saved / "config.json").read_text())
    config["model"]["generator"]["depht"] = 3
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="unknown settings depht"):
        load_pretrained(saved)


def test_the_bundled_checkpoint_saved_again_is_the_same_bytes(tmp_path: Path) -> None:
    """Settings that came later, of a run or of the sampler, are not in its `config.json`."""
    found = load_pretrained(None)
    again = save_pretrained(tmp_path, found.model, found.text, found.config, dtype=torch.float16)
    assert again == checkpoint_sha256(module.BUNDLED)
