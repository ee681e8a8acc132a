"""How fast a model generates, part by part: the efficiency columns of Table 2 (section 4.1).

What is timed is `dcar.pipeline.generate_batch`'s way from prompts to pixels, cut at its four parts.
What the numbers mean is `profile_protocol.DEFINITION`, which is printed with them.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from dcar.modules.classes import ClassEncoder
from dcar.modules.packed import packed_flops
from dcar.pipeline import TextToImage
from dcar.pipeline.edit import token_grid
from dcar.pipeline.settings import Settings, resolve
from dcar.randomness import keyed_generator
from dcar.sampler import sample_indices, sample_residual
from dcar.sampling_config import SamplingConfig
from dcar_eval.profile.memory import PeakMemory
from dcar_eval.profile.protocol import (
    LATENCY_BATCH,
    PRECISIONS,
    THROUGHPUT_BATCH,
    ProfileProtocol,
)
from dcar_eval.runs.results import (
    alone,
    finished,
    prepare,
    text_table,
    this_run,
    versions,
    write_results,
)
from dcht.checkpoint import to_dict
from dcht.files import read_json, write_atomic

PACKAGES = ("dcar-eval", "dcar", "dcht", "torch", "transformers")
PROMPT = "a photo of a red apple"
"""Any will do: text is padded to the encoder's length. Where there are classes, the first does."""


@dataclass(kw_only=True)
class Speed:
    """Times of one batch."""

    batch_size: int
    seconds: float
    """Of the batch, all parts: the median of the repeats; their extremes follow."""
    fastest: float
    slowest: float
    parts: dict[str, float]
    """Medians by part; without a head, three."""

    @property
    def images_per_second(self) -> float:
        """By the median."""
        return self.batch_size / self.seconds


@torch.inference_mode()
def generation_parts(
    pipe: TextToImage,
    prompts: Sequence[str],
    *,
    settings: SamplingConfig,
    size: tuple[int, int],
    seed: int = 0,
) -> Iterator[tuple[str, Tensor]]:
    """Draw a batch as `dcar.pipeline.generate_batch` does; what each part made, by the part's name.

    Args:
        pipe: in any precision.
        prompts: one an image.
        settings: how to sample.
        size: (height, width) in pixels.
        seed: of the noise.

    Yields:
        `text` (b, l, e), `transformer` (b or 2b, n, d), `head` (b, c, h, w), where there is one,
        and `decoder` (b, 3, H, W).
    """
    grid = token_grid(*size, pipe.tokenizer.config.downsampling)
    generator, head, tokenizer = pipe.model.generator, pipe.model.head, pipe.tokenizer
    sources = [keyed_generator(seed, number) for number in range(len(prompts))]
    ids, mask = (tokens.to(pipe.device) for tokens in pipe.text.tokenize(prompts))
    text = pipe.text(ids, mask)
    yield "text", text
    indices, hidden = sample_indices(
        generator, text, mask, grid=grid, config=settings, generators=sources
    )
    yield "transformer", hidden
    latent = tokenizer.lookup(indices)
    if head is not None:
        residual = sample_residual(
            head, hidden, config=settings, generators=sources, to_logits=generator.predict
        )
        latent = latent + rearrange(residual, "b (h w) c -> b c h w", h=grid[0])
        yield "head", latent
    yield "decoder", tokenizer.decode(latent)


def measure_speed(
    pipe: TextToImage,
    *,
    batch_size: int,
    settings: SamplingConfig,
    size: tuple[int, int],
    warmup: int = 1,
    repeats: int = 5,
) -> Speed:
    """Time batches of `batch_size`; `size` is (height, width)."""
    prompts = [prompt_for(pipe)] * batch_size
    runs = [
        _seconds(generation_parts(pipe, prompts, settings=settings, size=size), pipe.device)
        for _ in range(warmup + repeats)
    ][warmup:]
    totals = [sum(run.values()) for run in runs]
    return Speed(
        batch_size=batch_size,
        seconds=statistics.median(totals),
        fastest=min(totals),
        slowest=max(totals),
        parts={part: statistics.median(run[part] for run in runs) for part in runs[0]},
    )


def _seconds(parts: Iterator[tuple[str, Tensor]], device: torch.device) -> dict[str, float]:
    seconds = {}
    _wait(device)
    before = time.perf_counter()
    for part, _ in parts:
        _wait(device)
        now = time.perf_counter()
        seconds[part], before = now - before, now
    return seconds


def _wait(device: torch.device) -> None:
    """Until the device has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def prompt_for(pipe: TextToImage) -> str:
    """A prompt that a checkpoint takes."""
    return pipe.text.names[0] if isinstance(pipe.text, ClassEncoder) else PROMPT


def count_flops(
    pipe: TextToImage, *, settings: SamplingConfig, size: tuple[int, int]
) -> dict[str, int]:
    """FLOPs of one image by part, as executed; `size` is (height, width)."""
    flops, before = {}, 0
    with FlopCounterMode(display=False, custom_mapping=packed_flops()) as counter:
        for part, _ in generation_parts(pipe, [prompt_for(pipe)], settings=settings, size=size):
            total = counter.get_total_flops()
            flops[part], before = total - before, total
    return flops


def count_parameters(pipe: TextToImage) -> dict[str, int]:
    """Parameters by part, of what generating uses: not the tokenizer's encoder and codebook."""
    parts = {
        "text": pipe.text,
        "transformer": pipe.model.generator,
        "head": pipe.model.head,
        "decoder": pipe.tokenizer.decoder,
    }
    return {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in parts.items()
        if part is not None
    }


def device_name(device: torch.device) -> str:
    """What a time depends on: the GPU's name, or the CPU's kind and how many threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {device.type}, threads: {torch.get_num_threads()}"


@alone
def profile(
    build: Callable[[], TextToImage],
    out: Path,
    *,
    protocol: ProfileProtocol,
    preset: str | None = None,
    sampling: Settings | None = None,
    warmup: int = 1,
    repeats: int = 5,
    force: bool = False,
) -> dict[str, Any]:
    """Measure a model in each precision, at batch 1 and at batch 16; continue where a run stopped.

    Writes `PRECISION.json` as soon as one is measured and, last, `results.json`; a line a part goes
    to stderr.

    Args:
        build: makes the pipeline in fp32, on its device; called once a precision.
        out: folder to write.
        protocol: the conditions.
        preset: the size that `build` makes with random weights, which no hash tells; None: it
            loads a checkpoint.
        sampling: settings in place of the checkpoint's (or the protocol's preset).
        warmup: batches that are not timed.
        repeats: batches that are.
        force: replace what `out` holds.

    Returns:
        The content of `results.json`: `parameters` and `flops` by part, and the times in
        `run.measurements`, one a precision and batch size.

    Raises:
        UsageError: settings out of range, or `out` holds something else.
    """
    start = time.perf_counter()
    pipe = build()
    given: Settings = {**(sampling or {})}
    if protocol.sampling_preset is not None:
        given["preset"] = protocol.sampling_preset
    chosen = resolve(pipe.sampling, given, any_steps=True)
    height, width = reversed(protocol.size) if protocol.size else pipe.size
    size = (height, width)
    described = protocol.described(size=(width, height), device=device_name(pipe.device))
    settings = {
        "protocol": described["name"],
        "protocol_sha256": described["sha256"],
        "weights": pipe.sha256,
        **({} if preset is None else {"preset": preset}),
        "parameters": sum(count_parameters(pipe).values()),
        "size": [width, height],
        "sampling": to_dict(chosen),
        "warmup": warmup,
        "repeats": repeats,
    }
    kept = [f"{precision.name}.json" for precision in PRECISIONS]
    prepare(out, settings, files=kept, force=force)
    if (done := finished(out)) is not None:
        return done
    parameters = count_parameters(pipe)
    flops = count_flops(pipe, settings=chosen, size=size)
    measurements: list[dict[str, Any]] = []
    fresh = True
    for precision in protocol.precisions:
        measured = out / f"{precision.name}.json"
        if not measured.exists():
            if not fresh:
                del pipe  # two would not fit where one just does
                pipe = build()
            fresh = False
            pipe.to(precision.dtype)
            memory = PeakMemory(pipe.device)
            rows = []
            for batch_size in (LATENCY_BATCH, THROUGHPUT_BATCH):
                speed = measure_speed(
                    pipe, batch_size=batch_size, settings=chosen, size=size,
                    warmup=warmup, repeats=repeats,
                )  # fmt: skip
                row = {"precision": precision.name, **asdict(speed)}
                rows.append(row | {"images_per_second": speed.images_per_second})
                of = f"{precision.name} x{batch_size}"
                for part, seconds in (speed.parts | {"all": speed.seconds}).items():
                    print(f"{of:9}{part:12} {seconds:9.4f} s", file=sys.stderr)
            for row in rows:
                row["peak_bytes"] = memory.read()
            write_atomic(measured, json.dumps(rows, indent=1).encode() + b"\n")
        measurements += read_json(measured, kind=list)
    results = {
        "task": "profile",
        "protocol": described,
        "settings": settings,
        "parameters": parameters,
        "flops": flops,
        "versions": versions(PACKAGES),
        "run": {**this_run(start, pipe.device), "measurements": measurements},
    }
    write_results(out, results)
    return results


def table(results: dict[str, Any]) -> str:
    """Parts by rows: parameters, FLOPs of an image, and seconds of a batch in each measurement."""
    measurements = results["run"]["measurements"]
    headings = [f"{row['precision']} x{row['batch_size']}" for row in measurements]
    lines = [["part", "parameters", "GFLOP", *(f"{heading} (s)" for heading in headings)]]
    for part, count in results["parameters"].items():
        times = [f"{row['parts'][part]:.4f}" for row in measurements]
        lines.append([part, f"{count / 1e6:.2f} M", f"{results['flops'][part] / 1e9:.2f}", *times])
    whole = [sum(results[key].values()) for key in ("parameters", "flops")]
    times = [f"{row['seconds']:.4f}" for row in measurements]
    lines.append(["all", f"{whole[0] / 1e6:.2f} M", f"{whole[1] / 1e9:.2f}", *times])
    rates = [f"{row['images_per_second']:.3f}" for row in measurements]
    lines.append(["images/s", "", "", *rates])
    peaks = [row["peak_bytes"] for row in measurements]
    shown = ["-" if peak is None else f"{peak / 2**30:.2f} GiB" for peak in peaks]
    lines.append(["peak memory", "", "", *shown])
    return text_table(lines)
