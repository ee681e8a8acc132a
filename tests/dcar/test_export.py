"""A generator for other programs: its graphs give what the model gives, at any size."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from einops import rearrange, repeat
from torch import Tensor
from torch.export import ExportedProgram

from dcar import cli
from dcar.config import PRESETS
from dcar.export import NAMES, export_programs
from dcar.model import DCAR
from dcar.modules.classes import ClassEncoder
from dcar.modules.text import TextEncoder, word_tokenizer
from dcht.export import save_onnx

Call = Callable[..., list[Tensor]]
SIZES = [(1, 2, 2), (3, 3, 5)]
SHALLOW = replace(
    PRESETS["tiny"],
    generator=replace(PRESETS["tiny"].generator, depth=1, qk_norm=True),
    head=replace(PRESETS["tiny"].head, depth=1, residual_std=0.1),
)
"""Every kind of layer once: tracing takes time by the layer."""


@pytest.fixture(scope="module")
def model() -> DCAR:
    model = DCAR(SHALLOW)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


@pytest.fixture(scope="module")
def text() -> TextEncoder:
    assert SHALLOW.text.joint is not None
    words = word_tokenizer(["a red apple", "a blue car"], SHALLOW.text.joint)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TextEncoder.joint(SHALLOW.text, SHALLOW.generator, words).eval()


@pytest.fixture(scope="module")
def programs(model: DCAR, text: TextEncoder) -> dict[str, ExportedProgram]:
    return export_programs(model, text)


@pytest.fixture(
    params=[
        "eager",
        pytest.param("torch.export", marks=pytest.mark.slow),
        pytest.param("onnxruntime", marks=pytest.mark.slow),
    ]
)
def call(request: pytest.FixtureRequest, model: DCAR, text: TextEncoder, tmp_path: Path) -> Call:
    """A graph by name, on its inputs in order: as it is traced, traced, and as ONNX."""
    if request.param == "eager":
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("torch.export.export", lambda graph, *_, **__: graph)
            modules: dict[str, Any] = dict(export_programs(model, text))
        return lambda name, *inputs: listed(modules[name](*inputs))
    programs: dict[str, ExportedProgram] = request.getfixturevalue("programs")
    if request.param == "torch.export":
        modules = {name: program.module() for name, program in programs.items()}
        return lambda name, *inputs: listed(modules[name](*inputs))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    sessions = {
        path.stem: onnxruntime.InferenceSession(path, options)
        for path in save_onnx(programs, tmp_path, NAMES)
    }

    def run(name: str, *inputs: Tensor) -> list[Tensor]:
        feeds = dict(zip(NAMES[name][0], (value.numpy() for value in inputs), strict=True))
        return [torch.from_numpy(np.asarray(out)) for out in sessions[name].run(None, feeds)]

    return run


def listed(outputs: Any) -> list[Tensor]:
    return [outputs] if isinstance(outputs, Tensor) else list(outputs)


@torch.inference_mode()
def test_graphs_give_what_the_model_gives(call: Call, model: DCAR, text: TextEncoder) -> None:
    """A guided step and a step of the head: conditional rows first, the null caption's after."""
    generator, head = model.generator, model.head
    assert head is not None
    for images, height, width in SIZES:
        ids, mask = text.tokenize((["a red apple", "a blue car", "car"])[:images])
        (embedded,) = call("text", ids, mask)
        assert (embedded - text(ids, mask)).abs().max() <= 1e-5
        both, mask = torch.cat([embedded, embedded]), torch.cat([mask, mask])
        drop = torch.arange(2 * images) >= images
        keys, values = call("context", both, mask, drop)
        context = generator.embed_text(generator.drop_text(both, drop), mask)
        assert (keys - torch.stack(context.keys)).abs().max() <= 1e-5
        assert not torch.equal(keys[:, :images], keys[:, images:])
        shape = (2 * images, height, width)
        indices = torch.randint(generator.mask_id + 1, shape, generator=seeded(height))
        logits, hidden = call("step", indices, keys, values, mask)
        expected = generator(indices, context=context)
        assert (logits - expected.logits).abs().max() <= 1e-4
        assert (hidden - expected.hidden).abs().max() <= 1e-4
        rows = rearrange(expected.hidden, "b n d -> (b n) d")
        x = torch.randn(len(rows), head.latent_channels, generator=seeded(1))
        t = torch.randint(1000, (len(rows),), generator=seeded(2))
        epsilon, variance = call("denoise", x, t, rows)
        outputs = torch.cat([epsilon, variance], dim=1)
        # A last bit of a frequency, times a timestep of 999, is 1e-4 of a wave.
        assert (outputs - head(x, t, rows)).abs().max() <= 5e-4


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_what_a_model_does_not_have_is_not_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a head no `denoise`; classes are a text of one token; a frozen T5 stays outside."""
    monkeypatch.setattr("torch.export.export", lambda graph, inputs, **_: graph(*inputs))
    model = DCAR(replace(SHALLOW, discrete_only=True)).eval()
    classes = ClassEncoder(["cat", "dog"], SHALLOW.generator.text_dim)
    outputs = export_programs(model, classes)
    assert set(outputs) == {"text", "context", "step"}
    expected = repeat(classes.embedding.weight[0], "e -> b 1 e", b=2)
    assert torch.equal(outputs["text"], expected)  # type: ignore[arg-type]
    classes.trained = False  # as a frozen encoder says
    assert set(export_programs(model, classes)) == {"context", "step"}


def test_the_command_says_what_a_sampler_has_to_know(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "onnx"
    monkeypatch.setattr("dcar.export.export_programs", lambda model, text: {})

    def export(*more: str) -> tuple[int | str | None, str]:
        words = ["dcar", "export", "--ckpt", str(checkpoint), "--out", str(out), "--json", *more]
        monkeypatch.setattr("sys.argv", words)
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        return ended.value.code, printed.out + printed.err

    code, printed = export()
    assert code == 0, printed
    graphs = ["text.onnx", "context.onnx", "step.onnx", "denoise.onnx"]
    assert json.loads(printed)["files"] == [*graphs, "tokenizer.json"]
    facts = json.loads((out / "export.json").read_text())
    assert facts["checkpoint"] == json.loads(printed)["checkpoint"]
    assert facts["grid"] == [2, 2]
    assert facts["mask_id"] == 64 and facts["text_length"] == 8
    assert facts["residual_std"] == PRESETS["tiny"].head.residual_std
    assert facts["rounding"] == "nearest"
    assert (facts["sampling"]["num_steps"], facts["sampling"]["cfg_scale"]) == (2, 1.0)
    assert (out / "tokenizer.json").read_bytes() == (checkpoint / "tokenizer.json").read_bytes()
    # Of anybody.
    (out / "export.json").unlink()
    code, printed = export()
    assert code == 2 and "use --force or another --out" in printed
