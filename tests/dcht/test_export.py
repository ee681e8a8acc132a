"""A tokenizer for other programs: compiled, exported, in onnxruntime, on a bare install."""

import importlib.metadata
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from torch.export import ExportedProgram

from dcht import PRESETS, Tokenizer, UsageError
from dcht.cli import main
from dcht.config import CoderConfig, TokenizerConfig
from dcht.export import export_programs, require_onnx, save_onnx
from dcht.modules.layers import read_summary

if TYPE_CHECKING:
    import onnxruntime

SIZES = [(64, 64, 1), (96, 160, 3)]


def pixels(height: int, width: int, batch: int) -> torch.Tensor:
    seeded = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(batch, 3, height, width, generator=seeded) * 2 - 1


def shallow() -> TokenizerConfig:
    """Every kind of layer once, in three of six stages: tracing takes time by the layer."""

    def three(coder: CoderConfig) -> CoderConfig:
        names = ("widths", "depths", "blocks", "norms", "acts")
        return replace(coder, **{n: [getattr(coder, n)[k] for k in (0, 1, 5)] for n in names})

    tiny = PRESETS["tiny"]
    return replace(tiny, encoder=three(tiny.encoder), decoder=three(tiny.decoder))


LAYOUTS = [
    pytest.param(shallow(), id="three stages"),
    pytest.param(PRESETS["tiny"], id="six stages", marks=pytest.mark.slow),
]


@pytest.fixture(scope="module", params=LAYOUTS)
def fixed(request: pytest.FixtureRequest) -> Tokenizer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Tokenizer(request.param).eval()


@pytest.fixture(scope="module")
def programs(fixed: Tokenizer) -> dict[str, ExportedProgram]:
    return export_programs(fixed)


@pytest.fixture(scope="module")
def sessions(
    programs: dict[str, ExportedProgram], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, "onnxruntime.InferenceSession"]:
    import onnxruntime

    paths = save_onnx(programs, tmp_path_factory.mktemp("onnx"))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return {path.stem: onnxruntime.InferenceSession(path, options) for path in paths}


@pytest.mark.parametrize(("height", "width", "batch"), SIZES)
@torch.inference_mode()
def test_programs_give_the_same_at_any_size(
    fixed: Tokenizer, programs: dict[str, ExportedProgram], height: int, width: int, batch: int
) -> None:
    images = pixels(height, width, batch)
    z, indices, z_q = programs["encode"].module()(images)
    assert (z - fixed.encode(images)).abs().max() <= 1e-5
    assert torch.equal(indices, fixed.tokenize(images).indices)
    assert torch.equal(programs["lookup"].module()(indices), z_q)
    decoded = programs["decode"].module()(z)
    assert (decoded - fixed.decode(z)).abs().max() <= 1e-5


@pytest.mark.parametrize(("height", "width", "batch"), SIZES)
@torch.inference_mode()
def test_onnxruntime_gives_the_same_pixels(
    fixed: Tokenizer,
    sessions: dict[str, "onnxruntime.InferenceSession"],
    height: int,
    width: int,
    batch: int,
) -> None:
    images = pixels(height, width, batch)

    def run(name: str, **inputs: torch.Tensor) -> list[torch.Tensor]:
        feeds = {key: value.numpy() for key, value in inputs.items()}
        return [torch.from_numpy(np.asarray(out)) for out in sessions[name].run(None, feeds)]

    z, indices, z_q = run("encode", images=images)
    expected = fixed.tokenize(images)
    assert torch.equal(indices, expected.indices)
    assert (run("lookup", indices=indices)[0] - z_q).abs().max() <= 1e-6
    for latent, ours in ((z, fixed.encode(images)), (z_q, expected.z_q)):
        assert (latent - ours).abs().max() <= 1e-5
        assert (run("decode", latent=latent)[0] - fixed.decode(ours)).abs().max() <= 1e-4


def test_a_query_that_no_key_answers_is_zero_in_onnxruntime_too(tmp_path: Path) -> None:
    """0 / 0 without the tiny number that stands beside the sum, which an optimizer leaves out."""
    import onnxruntime

    class Attention(torch.nn.Module):
        def forward(self, q: torch.Tensor, summary: torch.Tensor) -> torch.Tensor:
            return read_summary(q, summary)

    q, summary = torch.tensor([[[[1.0, -1.0], [0.5, -2.0]]]]), torch.rand(1, 1, 3, 2)
    program = torch.export.export(Attention(), (q, summary))
    names = {"attention": (["q", "summary"], ["out"])}
    (path,) = save_onnx({"attention": program}, tmp_path, names)
    session = onnxruntime.InferenceSession(path)
    (out,) = session.run(None, {"q": q.numpy(), "summary": summary.numpy()})
    assert (torch.from_numpy(np.asarray(out)) - read_summary(q, summary)).abs().max() <= 1e-6
    assert np.array_equal(np.asarray(out)[0, 0, :, 1], [0, 0])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["encode", "decode"])
@torch.inference_mode()
def test_compiles_without_a_break(fixed: Tokenizer, name: str) -> None:
    """One graph, without code generation, which takes minutes."""
    x = pixels(64, 96, 2) if name == "encode" else fixed.encode(pixels(64, 96, 2))
    compiled = torch.compile(getattr(fixed, name), backend="eager", fullgraph=True)
    assert (compiled(x) - getattr(fixed, name)(x)).abs().max() <= 1e-6


@pytest.mark.slow
@torch.inference_mode()
def test_compiled_code_gives_the_same(fixed: Tokenizer) -> None:
    images = pixels(64, 96, 2)
    z = fixed.encode(images)
    assert (torch.compile(fixed.encode)(images) - z).abs().max() <= 1e-5
    assert (torch.compile(fixed.decode)(z) - fixed.decode(z)).abs().max() <= 1e-4


@torch.inference_mode()
def test_three_ways_of_use(fixed: Tokenizer) -> None:
    """docs/tokenizer.md's table: indices alone, z alone, both."""
    images = pixels(64, 96, 2)
    # 1. A language model's vocabulary: integers there and back.
    indices = fixed.tokenize(images).indices
    as_numbers = torch.tensor(indices.tolist())
    assert torch.equal(fixed.decode_indices(as_numbers), fixed.reconstruct(images, "discrete"))
    # 2. A diffusion model's latents, of unit length.
    z = fixed.encode(images)
    assert torch.equal(fixed.decode(z), fixed.reconstruct(images))
    # 3. Both: the indices and what they lack, scaled to about unit deviation and back.
    fixed.set_residual_std(0.125)
    scaled = fixed.residual(z) / 0.125
    together = fixed.decode(fixed.lookup(indices) + scaled * 0.125)
    assert (together - fixed.decode(z)).abs().max() <= 1e-5


def test_a_continuous_autoencoder_has_two_graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.export.export", lambda graph, inputs, **_: graph(*inputs))
    outputs = export_programs(Tokenizer(replace(shallow(), codebook_size=None)).eval())
    assert set(outputs) == {"encode", "decode"}
    assert len(outputs["encode"]) == 1  # type: ignore[arg-type]


def test_the_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dcht.export.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'pip install "dcht\[onnx\]"'):
        require_onnx()


def test_the_command(
    saved_tokenizer: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "onnx"
    words = ["dcht", "export", "--ckpt", str(saved_tokenizer), "--out", str(out), "--json"]
    monkeypatch.setattr("sys.argv", words)
    # Writing itself is tested above.
    monkeypatch.setattr("dcht.export.export_programs", lambda tokenizer: {})
    for code in (0, 2):
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == code
        printed = capsys.readouterr()
        if code == 0:
            result = json.loads(printed.out)
            assert result["tokenizer"] == Tokenizer.from_pretrained(saved_tokenizer).sha256
            assert result["files"] == ["encode.onnx", "decode.onnx", "lookup.onnx"]
            (out / "export.json").unlink()
            (out / "encode.onnx").touch()  # of anybody
    assert "use --force or another --out" in printed.err


@pytest.mark.parametrize("left", [[], ["export.json"], ["export.json", "encode.onnx"], ["all"]])
def test_an_export_killed_between_its_files_is_repeated(
    saved_tokenizer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: list[str]
) -> None:
    out, graphs = tmp_path / "onnx", ["decode.onnx", "encode.onnx", "lookup.onnx"]
    words = ["dcht", "export", "--ckpt", str(saved_tokenizer), "--out", str(out)]
    monkeypatch.setattr("sys.argv", words)
    monkeypatch.setattr("dcht.export.export_programs", lambda tokenizer: {})
    monkeypatch.setattr(
        "dcht.export.save_onnx",
        lambda programs, out: [(out / name).write_bytes(b"new") for name in graphs],
    )

    def export(*more: str) -> int | str | None:
        monkeypatch.setattr("sys.argv", [*words, *more])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    assert export() == 0
    for path in out.iterdir():
        if path.name not in left and left != ["all"]:
            path.unlink()
        elif path.name != "export.json":
            path.write_bytes(b"old")
    assert export() == 0
    assert sorted(path.name for path in out.iterdir()) == sorted([*graphs, "export.json"])
    # Nothing is made again once all is there.
    kept = b"old" if left == ["all"] else b"new"
    assert {(out / name).read_bytes() for name in graphs} == {kept}
    # Another tokenizer's graphs are never taken for this one's.
    (out / "export.json").write_text('{"tokenizer": "of another"}')
    assert export() == 2
    assert export("--force") == 0
    assert {(out / name).read_bytes() for name in graphs} == {b"new"}


def base_distributions() -> Iterator[str]:
    """What `pip install dcht` installs, without extras, down to the last dependency."""
    waiting, seen = ["dcht"], set()
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # of another platform
        yield name
        for line in requirements:
            if "extra ==" not in line:
                waiting.append(re.split(r"[\s\[<>=!~;(]", line, maxsplit=1)[0])


def test_the_base_install_is_enough(images: Path, tmp_path: Path) -> None:
    """With every other package of this environment out of reach: encode, decode, convert's help."""
    direct = {
        re.split(r"[\s\[<>=!~;(]", line, maxsplit=1)[0]
        for line in importlib.metadata.requires("dcht") or []
        if "extra ==" not in line
    }
    assert direct == {
        "torch", "einops", "filelock", "numpy", "pillow", "safetensors", "huggingface-hub", "tqdm",
        "shtab",
    }  # fmt: skip
    base = set(base_distributions())
    blocked = sorted(
        module
        for module, owners in importlib.metadata.packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", owner).lower() for owner in owners} & base
    )
    assert {"torchvision", "hydra", "onnx", "diffusers", "transformers"} <= set(blocked)
    code = f"""
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"{{name}} is not in the base install", name=name)

sys.meta_path.insert(0, Blocked())
import torch
import dcht, dcht.export, dcht.convert.published, dcht.modules.tiling, dcht.cli
tokenizer = dcht.Tokenizer.from_pretrained()
images = torch.rand(1, 3, 64, 64) * 2 - 1
latents = tokenizer.tokenize(images)
assert torch.equal(tokenizer.decode_indices(latents.indices), tokenizer.decode(latents.z_q))
sys.argv = ["dcht", "encode", {str(images)!r}, "--out", {str(tmp_path / "x")!r}, "--size", "64"]
dcht.cli.main()
"""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
