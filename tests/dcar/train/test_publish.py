import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from dcar.cli import train_main
from dcar.pipeline import TextToImage
from dcar.train import train
from dcar.train.publish import export
from dcar.train.start import layouts_of
from dcar.train_config import PublishDtype, TrainConfig
from dcht import CheckpointError, UsageError
from dcht.checkpoint import checkpoint_sha256
from dcht.files import locked


@pytest.fixture
def run(config: TrainConfig) -> Path:
    """A finished run of four steps."""
    config = replace(config, steps=4, prompts=[], reconstructions=0)
    assert train(config)
    return Path(config.out)


def test_export_publishes_weights_settings_and_a_card(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "elsewhere" / "published"
    sha256 = export(run, out)
    assert sha256 == checkpoint_sha256(out)
    names = sorted(path.name for path in out.iterdir())
    assert names == [
        "README.md", "config.json", "export.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    published, own = (
        load_file(folder / "model.safetensors") for folder in (out, run / "checkpoint")
    )
    assert all(torch.equal(published[key], own[key]) for key in own | published)
    # The image tokenizer is found from the new place, too.
    assert TextToImage.from_pretrained(out)("a red apple").images[0].size == (64, 64)
    card = (out / "README.md").read_text()
    loss = json.loads((run / "metrics.jsonl").read_text().splitlines()[-1])["cross_entropy"]
    for fact in (
        "library_name: dcar", "pipeline_tag: text-to-image", "12 images, 15 captions",
        "4 of 4 steps of 6 images, from scratch", "generator 0.03 M", f"cross-entropy {loss:.3f}",
        "64 x 64", "No license was chosen", "../../tokenizer |",
    ):  # fmt: skip
        assert fact in card, fact
    assert str(tmp_path) not in card


def test_export_can_halve_and_name_another_home_of_the_tokenizer(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "published"
    export(run, out, dtype=PublishDtype.float16, tokenizer="someone/tokenizer")
    assert load_file(out / "model.safetensors")["head.inputs.weight"].dtype == torch.float16
    assert '"location": "someone/tokenizer"' in (out / "config.json").read_text()
    assert ", someone/tokenizer |" in (out / "README.md").read_text()


@pytest.mark.parametrize("tokenizer", ["tokenizer", "disk/deep/tokenizer", None])
def test_an_export_through_a_link_names_where_the_tokenizer_is(
    run: Path,
    saved_tokenizer: Path,
    tokenizer: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Runs on a larger disk, as they are seen through a link to it, and a tokenizer on either."""
    monkeypatch.chdir(tmp_path)
    disk = tmp_path / "disk" / "deep"
    disk.mkdir(parents=True)
    if tokenizer == "disk/deep/tokenizer":
        shutil.copytree(saved_tokenizer, tokenizer)
    (tmp_path / "runs").symlink_to(disk, target_is_directory=True)
    export(run, "runs/published", tokenizer=tokenizer)
    config = json.loads(Path("runs/published/config.json").read_text())
    assert (Path("runs/published") / config["tokenizer"]["location"]).is_dir()
    TextToImage.from_pretrained("runs/published")
    layouts = layouts_of(SimpleNamespace(init_from="runs/published", tokenizer_ckpt=None))
    assert Path(layouts["tokenizer_ckpt"]).is_dir()


def test_what_cannot_be_exported_is_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"holds no checkpoint/; name a run's folder"):
        export(tmp_path, tmp_path / "x")
    with pytest.raises(UsageError, match="is not empty; use --force or another --out"):
        export(run, run)
    with (
        locked(tmp_path / "x"),
        pytest.raises(UsageError, match="is being written by process"),
    ):
        export(run, tmp_path / "x")
    weights = run / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"model\.safetensors is damaged"):
        export(run, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_export_is_a_verb_of_dcar_train(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def call(source: Path) -> tuple[object, str, str]:
        words = ["dcar-train", "export", str(source), "--out", str(tmp_path / "x")]
        monkeypatch.setattr("sys.argv", words)
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            train_main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out, printed.err

    code, _, errors = call(tmp_path)
    assert code == 2
    assert errors.startswith(f"error: {tmp_path} holds no checkpoint/")
    code, printed, errors = call(run)
    assert (code, errors) == (0, "")
    assert printed == f"{tmp_path / 'x'}: {checkpoint_sha256(tmp_path / 'x')[:12]}\n"


def test_an_export_killed_between_its_files_is_repeated(run: Path, tmp_path: Path) -> None:
    killed = tmp_path / "published"

    def exported() -> dict[str, bytes]:
        export(run, killed)
        return {path.name: path.read_bytes() for path in killed.iterdir()}

    expected = exported()
    # As they are written: from the last one back, until only the first is there.
    written = ["export.json", "README.md", "config.json", "tokenizer.json", "model.safetensors"]
    for count in range(len(written), 0, -1):
        for name in written[count:]:
            (killed / name).unlink()
        assert exported() == expected, written[:count]
    # What is not of this run, or asked for otherwise, is in the way as before.
    with pytest.raises(
        UsageError, match=r"was begun with .*float16.*; use --force or another --out"
    ):
        export(run, killed, dtype=PublishDtype.float16)
    export(run, killed, dtype=PublishDtype.float16, force=True)
    assert load_file(killed / "model.safetensors")["head.inputs.weight"].dtype == torch.float16
