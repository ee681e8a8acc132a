"""The paper's scale, rehearsed on a CPU with 24 GiB: from photographs to published weights.

    uv run --all-packages pytest -m slow -s tests/test_rehearsal.py

The commands as they are typed, each in a process of its own: `imagenet256`, `pretrain256` and
`finetune512` at full size (323 M, 671 M) with all their networks (LPIPS, the GAN, T5-base), two
steps or more each, killed in between and continued; what they publish is exported, generates and
is evaluated. Four photographs are the data; batches are of one image, and LPIPS and T5 have random
weights: what is shown is that everything fits, runs, continues and is read by what comes next.
What it took, command by command, is in docs/train-generator.md.
"""

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import skimage.data
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from dcar.config import PRESETS as DCAR_PRESETS
from dcar.config import JointTextConfig
from dcar.model import DCAR
from dcar.modules.words import word_tokenizer
from dcht import PRESETS, Tokenizer
from dcht.perceptual import LPIPS

PHOTOGRAPHS = ("astronaut", "cat", "coffee", "rocket")
MOST_GIB = 18
"""What a process may take: 24 GiB, less the system's and the page cache's."""


class Commands:
    """Runs command lines in a folder, and prints what each took."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.peaks: list[float] = []

    def run(self, line: str, *, killed_at: str | None = None) -> None:
        """Run a command to its end, or kill it as soon as it has written `killed_at`."""
        words = line.split()
        start, killed = time.monotonic(), False
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / words[0]), *words[1:]], cwd=self.folder
        )
        while True:
            number, status, usage = os.wait4(process.pid, os.WNOHANG)
            if number:
                break
            if killed_at is not None and not killed and (self.folder / killed_at).exists():
                process.kill()
                killed = True
            time.sleep(0.1)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.peaks.append(usage.ru_maxrss / 2**20)
        took, processor = time.monotonic() - start, usage.ru_utime + usage.ru_stime
        print(
            f"\n{self.peaks[-1]:4.1f} GiB, {processor:4.0f} s of a processor, {took:4.0f} s: {line}"
            f"{', killed' * killed}",
            flush=True,
        )
        assert process.returncode == (-9 if killed_at else 0)

    def steps(self, run: str) -> list[int]:
        """The steps that a run logged its training losses of."""
        return [row["step"] for row in self.rows(run) if "grad_norm" in row]

    def rows(self, run: str) -> list[dict[str, Any]]:
        lines = (self.folder / run / "metrics.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """In a folder with photographs, a T5-base and the weights of LPIPS; 30 GB that do not stay."""
    (tmp_path / "photographs").mkdir()
    for name in PHOTOGRAPHS:
        path = tmp_path / "photographs" / f"{name}.png"
        Image.fromarray(getattr(skimage.data, name)()).save(path)
        path.with_suffix(".txt").write_text(f"a photograph: {name}\n")
    save_file(LPIPS("vgg").state_dict(), tmp_path / "vgg16.safetensors")
    save_file(LPIPS("alex").state_dict(), tmp_path / "alexnet.safetensors")
    layout = T5Config(
        vocab_size=32128, d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12
    )
    T5EncoderModel(layout).save_pretrained(tmp_path / "t5")
    words = word_tokenizer(["a photograph: " + " ".join(PHOTOGRAPHS)], JointTextConfig())
    PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
    ).save_pretrained(tmp_path / "t5")  # fmt: skip
    yield Commands(tmp_path)
    shutil.rmtree(tmp_path)


def weights_of_a_step() -> int:
    """Of the transformer, without those that the text passes once for all steps."""
    with torch.device("meta"):
        generator = DCAR(DCAR_PRESETS["dcar_671m"]).generator
    return sum(
        weight.numel()
        for name, weight in generator.named_parameters()
        if "cross_attention.kv" not in name and not name.startswith("caption.")
    )


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)
def test_from_photographs_to_numbers(commands: Commands) -> None:
    run, folder = commands.run, commands.folder
    tokenizer = (
        "dcht-train +experiment=imagenet256 data.root=photographs out=tokenizer batch_size=1 "
        "data.num_val=1 data.workers=0 loss.lpips_weights=vgg16.safetensors loss.gan_start=0 "
        "continuous_warmup.steps=1 discrete_learning.steps=1 alternate_finetune.steps=2 "
        "log_every=1 save_every=1 device=cpu trackers=[]"
    )
    run(tokenizer, killed_at="tokenizer/resume-000000003.pt")  # within its last stage
    run(tokenizer)
    assert commands.steps("tokenizer") == [1, 2, 3, 4]
    shutil.rmtree(folder / "tokenizer" / "samples")
    for file in folder.glob("tokenizer/resume-*.pt"):
        file.unlink()
    run("dcht-train export tokenizer --out published-tokenizer")
    made = Tokenizer.from_pretrained(folder / "published-tokenizer")
    assert made.config.residual_std is not None
    assert replace(made.config, residual_std=None) == PRESETS["f32c32"]
    del made
    run(
        "dcar-eval reconstruction --ckpt published-tokenizer --images photographs --size 256 "
        "--batch-size 1 --lpips-weights . --extractor efficientnet-lite0 --device cpu "
        "--out reconstruction"
    )
    for size in (256, 512):
        run(
            f"dcht encode photographs --ckpt published-tokenizer --size {size} --batch-size 1 "
            f"--device cpu --out latents{size}"
        )

    shared = (
        "tokenizer_ckpt=published-tokenizer batch_size=1 accumulate=1 steps=2 device=cpu "
        "activation_checkpointing=true log_every=1 save_every=1 keep_saves=1 trackers=[] "
        "prompts=[] reconstructions=1 sampling.num_steps=2 sampling.num_diffusion_steps=8"
    )
    generator = (
        "dcar-train +experiment=pretrain256 model.text.name=t5 data.root=latents256 out=generator "
        f"{shared}"
    )
    run(generator, killed_at="generator/resume/step-000000001")
    run(generator)
    assert commands.steps("generator") == [1, 2]
    # The output layer begins at zero: every code is as likely.
    first = commands.rows("generator")[0]["cross_entropy"]
    assert first == pytest.approx(math.log(16384), rel=1e-3)
    shutil.rmtree(folder / "generator" / "resume")
    finetune = (
        "dcar-train +experiment=finetune512 init_from=generator/checkpoint model.text.name=t5 "
        f"data.root=latents512 out=finetuned {shared}"
    )
    run(finetune, killed_at="finetuned/resume/step-000000001")
    run(finetune)
    assert commands.steps("finetuned") == [1, 2]
    shutil.rmtree(folder / "finetuned" / "resume")
    run("dcar-train export finetuned --out published --dtype float16")
    shutil.rmtree(folder / "finetuned" / "checkpoint")
    run(
        "dcar generate cat --ckpt published --steps 2 --diffusion-steps 8 --device cpu "
        "--out cat.png"
    )
    with Image.open(folder / "cat.png") as image:
        assert image.size == (512, 512)
    run(
        "dcar-eval scenes-eval --ckpt published --objects wide --size 256 --num-per-task 1 "
        "--steps 2 --diffusion-steps 8 --batch-size 6 --device cpu --out scenes"
    )
    assert json.loads((folder / "scenes" / "results.json").read_text())["n"] == 6
    run("dcar export --ckpt published --out graphs")
    weights = (folder / "graphs" / "step.onnx.data").stat().st_size
    assert weights == pytest.approx(4 * weights_of_a_step(), rel=1e-3)
    print(f"\nthe most of a process: {max(commands.peaks):.1f} GiB")
    assert max(commands.peaks) < MOST_GIB
