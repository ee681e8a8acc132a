"""Tiny worlds for dcar's tests: a store of latents with captions, and a pipeline."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcar import cli
from dcar.config import PRESETS, CheckpointConfig, SamplingConfig, TextConfig
from dcar.model import DCAR
from dcar.modules.text import TextEncoder, word_tokenizer
from dcar.pipeline import TextToImage
from dcar.train_config import DataConfig, DataKind, OptimizerConfig, TrainConfig
from dcar.weights.pretrained import refer_to_tokenizer, save_pretrained
from dcht import PRESETS as TOKENIZERS
from dcht import Tokenizer
from dcht.checkpoint import to_dict
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings

CAPTIONS = ["a red apple", "a blue car\nthe blue car", "two green cars", "a dog and a cat"]


@pytest.fixture(scope="session")
def world(tiny_tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the fixtures below are copies of, beside each other as they refer to each other."""
    folder = tmp_path_factory.mktemp("world")
    shutil.copytree(tiny_tokenizer_folder, folder / "tokenizer")
    make_captioned(folder / "captioned")
    tokenizer = Tokenizer.from_pretrained(folder / "tokenizer")
    settings = EncodeSettings(size=(64, 64), batch_size=4)
    encode_images(tokenizer, folder / "captioned", folder / "latents", settings)
    generator = lively(DCAR(PRESETS["tiny"]))
    config = CheckpointConfig(
        model=generator.config,
        tokenizer=refer_to_tokenizer(tokenizer, str(folder / "tokenizer"), folder / "generator"),
        sampling=SamplingConfig(num_steps=2, num_diffusion_steps=2, cfg_scale=1.0),
        height=64,
        width=64,
    )
    save_pretrained(folder / "generator", generator, make_text(), config)
    return folder


def make_captioned(folder: Path) -> None:
    folder.mkdir()
    rng = np.random.default_rng(1)
    for number in range(12):
        coarse = rng.integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((64, 64), Image.Resampling.BICUBIC)
        image.save(folder / f"{number:02d}.png")
        (folder / f"{number:02d}.txt").write_text(CAPTIONS[number % 4] + "\n")


@pytest.fixture
def captioned(world: Path, tmp_path: Path) -> Path:
    """Twelve images of 64 px, each with one or two captions."""
    return Path(shutil.copytree(world / "captioned", tmp_path / "captioned"))


@pytest.fixture
def store(world: Path, captioned: Path, saved_tokenizer: Path, tmp_path: Path) -> Path:
    """The images as latents of the tiny tokenizer: 2 x 2 tokens each."""
    return Path(shutil.copytree(world / "latents", tmp_path / "latents"))


@pytest.fixture
def config(store: Path, saved_tokenizer: Path, tmp_path: Path) -> TrainConfig:
    """A run of eight steps on the store."""
    return TrainConfig(
        model=PRESETS["tiny"],
        tokenizer=TOKENIZERS["tiny"],
        tokenizer_ckpt=str(saved_tokenizer),
        data=DataConfig(kind=DataKind.latents, root=str(store)),
        init_from="scratch",
        out=str(tmp_path / "run"),
        steps=8,
        batch_size=6,
        optimizer=OptimizerConfig(lr=3e-3, warmup_steps=2, ema_decay=0.5),
        sampling=SamplingConfig(num_steps=2, num_diffusion_steps=2),
        prompts=["a red apple"],
        log_every=2,
        sample_every=8,
        save_every=4,
        device="cpu",
        trackers=[],
    )


@pytest.fixture
def model() -> DCAR:
    """The tiny model with weights that are not zero anywhere, in eval mode."""
    return lively(DCAR(PRESETS["tiny"]))


def lively(model: DCAR) -> DCAR:
    """Random weights in place of those that start at zero, so that everything has an effect."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return model.eval()


@pytest.fixture
def text() -> TextEncoder:
    """A tiny text encoder that knows the captions' words."""
    return make_text()


def make_text() -> TextEncoder:
    config = PRESETS["tiny"]
    assert config.text.joint is not None
    words = word_tokenizer("\n".join(CAPTIONS).splitlines(), config.text.joint)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TextEncoder.joint(config.text, config.generator, words).eval()


@pytest.fixture
def pipe(model: DCAR, text: TextEncoder, tokenizer: Tokenizer) -> TextToImage:
    """A pipeline for 64 x 96 images (2 x 3 tokens)."""
    sampling = SamplingConfig(num_steps=3, num_diffusion_steps=3, cfg_scale=1.0)
    return TextToImage(model, text, tokenizer, sampling=sampling, size=(64, 96), sha256="0" * 64)


@pytest.fixture
def frozen_t5(tmp_path: Path, text: TextEncoder) -> TextConfig:
    """A tiny T5 in a folder, as the frozen text encoder of a model."""
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    folder = tmp_path / "t5"
    shape = T5Config(vocab_size=64, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
                     use_cache=False)  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        T5EncoderModel(shape).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=text.tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    ).save_pretrained(folder)
    return TextConfig(name=str(folder), joint=None)


Launch = Callable[..., list[subprocess.Popen[str]]]


@pytest.fixture
def launch() -> Iterator[Launch]:
    """Start `train` in processes of their own, as a launcher starts its ranks.

    `before` is code that each runs first. Ranks that a test leaves running are killed.
    """
    started: list[subprocess.Popen[str]] = []

    def start(config: TrainConfig, *, ranks: int = 1, before: str = "") -> list:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        place = {} if ranks == 1 else {
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(ranks)
        }  # fmt: skip
        code = (
            "import json, sys\n"
            "import dcar.train\n"
            "from dcar.train import train\n"
            "from dcar.train_config import TrainConfig\n"
            "from dcht.checkpoint import from_dict\n"
            "from dcht.commands.common import run\n"
            "dcar.train.plot_run = lambda out: None\n"
            f"{before}\n"
            "config = from_dict(TrainConfig, json.loads(sys.argv[1]), 'test')\n"
            "run(lambda: 0 if train(config) else 130)\n"
        )
        processes = [
            subprocess.Popen(
                [sys.executable, "-c", code, json.dumps(to_dict(config))],
                env=os.environ | place
                | ({"RANK": str(rank), "LOCAL_RANK": str(rank)} if place else {})
                | {"OMP_NUM_THREADS": "1"},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(ranks)
        ]  # fmt: skip
        started.extend(processes)
        return processes

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def checkpoint(world: Path, saved_tokenizer: Path, tmp_path: Path) -> Path:
    """The pipeline's parts as a checkpoint, for 64 px."""
    return Path(shutil.copytree(world / "generator", tmp_path / "generator"))


@pytest.fixture
def dcar(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run `dcar` with that checkpoint in this process: (exit code, stdout, stderr)."""

    def call(*words: object) -> tuple[int, str, str]:
        arguments = ["dcar", *map(str, words), "--ckpt", str(checkpoint), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", arguments)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        output = capsys.readouterr()
        return int(stop.value.code or 0), output.out, output.err

    return call
