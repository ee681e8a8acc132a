"""A pipeline saved, pushed and loaded again makes the same images."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from dcar.pipeline import TextToImage
from dcht import CheckpointError, UsageError
from dcht.tokenizer import Tokenizer

PROMPT = "a red apple"


def pixels(pipe: TextToImage) -> bytes:
    return pipe(PROMPT, seed=5).images[0].tobytes()


def test_saved_with_its_tokenizer_it_is_whole(pipe: TextToImage, tmp_path: Path) -> None:
    sha256 = pipe.save_pretrained(tmp_path / "saved")
    (tmp_path / "saved").rename(tmp_path / "moved")
    again = TextToImage.from_pretrained(tmp_path / "moved")
    assert again.sha256 == sha256 == pipe.sha256
    assert (again.sampling, again.size) == (pipe.sampling, pipe.size)
    assert pixels(again) == pixels(pipe)
    assert again.tokenizer.sha256 == pipe.tokenizer.sha256
    # What was loaded saves as the same files.
    assert again.save_pretrained(tmp_path / "again") == sha256


def test_a_tokenizer_of_the_hub_is_named_and_not_copied(
    pipe: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Generator and tokenizer are asked for with the same token, cache and offline mode."""
    pipe.tokenizer.save_pretrained(tmp_path / "tok")
    pipe.tokenizer_id = "me/tok"
    pipe.save_pretrained(tmp_path / "gen")
    reference = json.loads((tmp_path / "gen" / "config.json").read_text())["tokenizer"]
    assert reference == {"sha256": pipe.tokenizer.sha256, "location": "me/tok"}
    assert not (tmp_path / "gen" / "tokenizer").exists()
    asked: list[dict[str, Any]] = []

    def download(name: str, **settings: Any) -> str:
        asked.append(settings | {"name": name})
        return str(tmp_path / name.split("/")[1])

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    again = TextToImage.from_pretrained("me/gen", revision="v1", token="t", local_files_only=True)
    assert again.tokenizer_id == "me/tok"
    assert [(a["name"], a["revision"]) for a in asked] == [("me/gen", "v1"), ("me/tok", None)]
    assert {(a["token"], a["local_files_only"]) for a in asked} == {("t", True)}
    assert pixels(again) == pixels(pipe)


def test_the_bundled_tokenizer_is_named(
    pipe: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe.tokenizer.save_pretrained(tmp_path / "tok")
    for module in ("dcar.weights.pretrained", "dcar.pipeline.save"):
        monkeypatch.setattr(f"{module}.BUNDLED_TOKENIZER", tmp_path / "tok")
    pipe.save_pretrained(tmp_path / "gen")
    reference = json.loads((tmp_path / "gen" / "config.json").read_text())["tokenizer"]
    assert reference["location"] == "bundled"


def test_half_precision_is_saved_as_it_is(pipe: TextToImage, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "whole")
    pipe.to(torch.bfloat16).save_pretrained(tmp_path / "half")
    sizes = [(tmp_path / f / "model.safetensors").stat().st_size for f in ("whole", "half")]
    assert sizes[1] < 0.65 * sizes[0]
    again = TextToImage.from_pretrained(tmp_path / "half", dtype=torch.bfloat16)
    assert pixels(again) == pixels(pipe)


def test_what_no_checkpoint_can_hold_is_refused(
    pipe: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dcar.pipeline.save.is_int8", lambda model: True)
    with pytest.raises(UsageError, match="int8 weights cannot be saved"):
        pipe.save_pretrained(tmp_path / "x")
    monkeypatch.undo()

    class Own(torch.nn.Module):
        pass

    pipe.text = Own()  # type: ignore[assignment]
    with pytest.raises(UsageError, match="a Own cannot be saved"):
        pipe.save_pretrained(tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_pushed_with_a_card(
    pipe: TextToImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def upload(repo_id: str, folder_path: str, **_: Any) -> SimpleNamespace:
        (tmp_path / "hub").mkdir()
        for path in Path(folder_path).rglob("*"):
            target = tmp_path / "hub" / path.relative_to(folder_path)
            if path.is_dir():
                target.mkdir()
            else:
                target.write_bytes(path.read_bytes())
        return SimpleNamespace(commit_url="the commit")

    fake = SimpleNamespace(
        create_repo=lambda name, **_: SimpleNamespace(repo_id=name),
        file_exists=lambda *_, **__: False,
        upload_folder=upload,
    )
    monkeypatch.setattr("huggingface_hub.HfApi", lambda token: fake)
    assert pipe.push_to_hub("me/gen") == "the commit"
    assert pixels(TextToImage.from_pretrained(tmp_path / "hub")) == pixels(pipe)
    card = (tmp_path / "hub" / "README.md").read_text()
    for fact in ("pipeline_tag: text-to-image", "# gen", "96 x 64", "3 steps, guidance 1"):
        assert fact in card, fact


def test_a_generator_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="me/gen is not a local folder and could") as caught:
        TextToImage.from_pretrained("me/gen", cache_dir=tmp_path, local_files_only=True)
    assert "\n" not in str(caught.value)
    assert isinstance(Tokenizer.from_pretrained(local_files_only=True), Tokenizer)  # bundled


def test_weights_that_changed_have_no_hash(pipe: TextToImage, tmp_path: Path) -> None:
    """Nor does a run that is recorded for the checkpoint go on with them."""
    sha256 = pipe.save_pretrained(tmp_path / "saved")
    for part in (pipe.model, pipe.text, pipe.tokenizer):
        weight = next(part.parameters())
        was = weight.detach().clone()
        weight.data.add_(1)  # without telling, as a merge of LoRA does
        assert (pipe.sha256, pipe.identity["weights"]) == (None, None)
        weight.data.copy_(was)
        assert pipe.sha256 == sha256
    tokenizer = pipe.tokenizer.sha256
    with torch.no_grad():
        pipe.tokenizer.decoder.input.weight.mul_(2)
    other = pipe.save_pretrained(tmp_path / "other")
    assert pipe.sha256 == other != sha256
    again = TextToImage.from_pretrained(tmp_path / "other")
    assert again.tokenizer.sha256 == pipe.tokenizer.sha256 != tokenizer
    assert pixels(again) == pixels(pipe)


def test_a_cast_keeps_the_hash_until_it_has_rounded_what_is_called_fp32(
    pipe: TextToImage, tmp_path: Path
) -> None:
    sha256 = pipe.save_pretrained(tmp_path / "saved")
    assert pipe.to(torch.float64).sha256 == sha256
    assert pipe.to(torch.float32).sha256 == sha256
    assert pipe.to(torch.bfloat16).identity == {"weights": sha256, "precision": "bf16"}
    assert pipe.to("cpu").sha256 == sha256
    assert pipe.to(torch.float32).sha256 is None
    loaded = TextToImage.from_pretrained(tmp_path / "saved", dtype=torch.bfloat16)
    assert loaded.sha256 == sha256
    assert loaded.to(torch.float16).sha256 is None


def test_rounded_into_a_file_the_weights_here_are_not_the_file_s(
    pipe: TextToImage, tmp_path: Path
) -> None:
    pipe.save_pretrained(tmp_path / "whole")
    kept = pipe.sha256
    half = pipe.save_pretrained(tmp_path / "half", dtype=torch.float16)
    assert pipe.sha256 == kept != half
    assert TextToImage.from_pretrained(tmp_path / "half").sha256 == half
