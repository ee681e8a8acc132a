"""DC-AR against its peers, part by part, in one process: who makes an image in less time.

Networks have their published sizes and random weights, which cost as much as trained ones. All run
in one precision, on one device, with guidance, on the same number of text tokens, and their parts
take turns, twice in a row each, so that a machine which is busy with something else slows each of
them alike; the fastest of a few rounds counts. A part is timed once or twice and multiplied by how
often an image needs it; `--full` takes every step. Text encoders are left out: the peers' are
larger than ours.

    python benchmarks/speed/race.py --size 512 --peers sana,pixart --precision fp32 --threads 1

With `--json` stdout holds one JSON object: `parts` (seconds of the processor and of the clock, how
often an image needs it), `totals` (seconds an image), `ratios`: the peer's seconds over ours,
above 1 we are faster. On a GPU seconds are those of CUDA events.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch: spinning counts as work
if TYPE_CHECKING:
    from torch import Tensor, nn

PEERS = ("sana", "pixart", "amused")
STEPS = {"sana": 20, "pixart": 20, "amused": 12}
"""Of each peer's own pipeline, as published."""
SOME_STEPS = 2
"""Unmasking steps that are timed where not all are..."""
HIDDEN = 0.68
"""...of a grid so much of which is hidden: the mean of the paper's 12 steps (arccos)."""


@dataclass
class Part:
    """A piece of somebody's work, and how often an image needs it."""

    run: Callable[[], object]
    times: dict[str, float]
    """By entrant."""
    divide: int = 1
    """Steps in one call of `run`."""
    seconds: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


class Setting(NamedTuple):
    """What is the same for everybody."""

    size: int
    batch: int
    text: int
    dtype: Any
    device: Any
    full: bool
    compiled: bool
    preset: str = "dcar_671m"
    """Of ours; another one is no race."""

    def random(self, *shape: int) -> Tensor:
        """Random numbers of this setting's type."""
        import torch

        seeded = torch.Generator().manual_seed(0)
        return torch.randn(*shape, generator=seeded).to(self.device, self.dtype)

    def ready(self, module: nn.Module) -> Any:
        """A network as it is raced."""
        return module.eval().requires_grad_(False).to(self.device, self.dtype)

    def peer(self, module: nn.Module) -> Any:
        """One of a peer's; on a GPU compiled, with CUDA graphs, where that was asked."""
        import torch

        ready = self.ready(module)
        return torch.compile(ready, mode="reduce-overhead") if self.compiled else ready


class WithText:
    """The transformer, its text embedded: once an image, so that is a part of its own."""

    def __init__(self, generator: Any, context: Any) -> None:
        self.generator, self.context = generator, context

    def __getattr__(self, name: str) -> Any:
        return getattr(self.generator, name)

    def embed_text(self, text: Tensor, text_mask: Tensor) -> Any:
        return self.context


def ours(setting: Setting) -> dict[str, Part]:
    """DC-AR 671 M, with the paper's settings, with every preset that the package has, and with
    `--steps 8 --guidance interval` (`interval-8`), the fastest that qualifies (docs/speed.md).

    Each of them with the light decoder, too: that is the time of a preview, whose image is not the
    large decoder's (docs/speed.md has what it costs in quality).
    """
    import torch
    from einops import rearrange

    import dcar
    import dcht
    from dcar.pipeline.compiled import compile_networks
    from dcar.sampler import sample_residual, unmask
    from dcar.sampling.guidance import guidance_context, last_step_scale, step_scale
    from dcar.sampling_config import SAMPLING_PRESETS, Guidance, SamplingConfig, with_preset
    from dcht.modules.autoencoder import Decoder

    config = dcar.PRESETS[setting.preset]
    model = dcar.DCAR(
        replace(config, generator=replace(config.generator, text_length=setting.text))
    )
    assert model.head is not None
    generator, head = setting.ready(model.generator), setting.ready(model.head)
    layout = dcht.PRESETS["tiny" if setting.preset == "tiny" else "f32c32"]
    decoder = setting.ready(dcht.Tokenizer(layout).decoder)
    decoder.to(memory_format=torch.channels_last)
    if setting.compiled:
        compile_networks(model, decoder)
    side = setting.size // 32
    text = setting.random(setting.batch, setting.text, config.generator.text_dim)
    mask = torch.ones(text.shape[:2], dtype=torch.bool, device=setting.device)
    sources = [torch.Generator().manual_seed(image) for image in range(setting.batch)]
    names = [name for name in SAMPLING_PRESETS if name != "release"]
    presets = {name: with_preset(SamplingConfig(), name) for name in names}
    presets["interval-8"] = SamplingConfig(num_steps=8, guidance=Guidance.interval)
    parts: dict[str, Part] = {}

    rows = guidance_context(generator, text, mask, guided=True)
    embedded: Any = WithText(generator, rows)
    start = None
    if not setting.full:
        known = torch.rand(side * side, generator=torch.Generator().manual_seed(0)) > HIDDEN
        one = rearrange(torch.where(known, 0, generator.mask_id), "(h w) -> 1 h w", h=side)
        start = one.expand(setting.batch, -1, -1).to(setting.device)

    def unmasking(config: SamplingConfig, count: int) -> Callable[[], object]:
        def run() -> object:
            loop = unmask(
                embedded, text, mask, grid=(side, side), config=config, generators=sources,
                start=start,
            )  # fmt: skip
            return list(islice(loop, count))

        return run

    parts["dcar text"] = Part(
        lambda: guidance_context(generator, text, mask, guided=True),
        {f"dcar-{name}": 1 for name in presets},
    )

    for name, config in presets.items():
        entrant = f"dcar-{name}"
        steps = config.num_steps if setting.full else SOME_STEPS
        key = f"dcar {config.order.value} step" if config.order.value == "gtr" else "dcar step"
        guided = sum(step_scale(config, step) != 0 for step in range(config.num_steps))
        constant = replace(config, guidance=Guidance.constant)
        part = parts.setdefault(key, Part(unmasking(constant, steps), {}, divide=steps))
        part.times[entrant] = guided
        if guided < config.num_steps:
            key, alone = f"{key}, not guided", replace(constant, cfg_scale=0.0)
            part = parts.setdefault(key, Part(unmasking(alone, steps), {}, divide=steps))
            part.times[entrant] = config.num_steps - guided
        key = f"dcar head, {config.num_diffusion_steps} steps {config.solver.value}"
        key += f", {config.fts_steps} for the rest" if config.fts else ""
        key += "" if last_step_scale(config) else ", not guided"
        rows_of_head = (2 if last_step_scale(config) else 1) * setting.batch
        hidden = setting.random(rows_of_head, side * side, generator.config.width)

        def refine(config: SamplingConfig = config, hidden: Tensor = hidden) -> object:
            return sample_residual(head, hidden, config=config, generators=sources)

        parts.setdefault(key, Part(refine, {})).times[entrant] = 1
    latent = setting.random(setting.batch, layout.latent_channels, side, side)
    latent = latent.contiguous(memory_format=torch.channels_last)
    parts["dcar decoder"] = Part(lambda: decoder(latent), {f"dcar-{name}": 1 for name in presets})
    narrow = dcht.config.LIGHT_PRESETS["tiny" if setting.preset == "tiny" else "f32c32"]
    light = setting.ready(
        Decoder(narrow, resample=layout.resample, latent_channels=layout.latent_channels)
    )
    light.to(memory_format=torch.channels_last)
    parts["dcar light decoder"] = Part(lambda: light(latent), {})
    return with_light(parts)


def with_light(parts: dict[str, Part]) -> dict[str, Part]:
    """Every entrant once more, `dcar-PRESET+light`: the light decoder in the large one's place."""
    for name, part in parts.items():
        if name != "dcar decoder":
            part.times |= {f"{entrant}+light": times for entrant, times in part.times.items()}
    of_large = parts["dcar decoder"].times
    parts["dcar light decoder"].times = {f"{entrant}+light": 1 for entrant in of_large}
    return parts


def sana(setting: Setting) -> dict[str, Part]:
    """Sana-0.6B and its DC-AE, from diffusers."""
    diffusers: Any = importlib.import_module("diffusers")

    side, rows = setting.size // 32, 2 * setting.batch
    network = setting.peer(
        diffusers.SanaTransformer2DModel(
            in_channels=32, out_channels=32, num_attention_heads=36, attention_head_dim=32,
            num_layers=28, num_cross_attention_heads=16, cross_attention_head_dim=72,
            cross_attention_dim=1152, caption_channels=2304, mlp_ratio=2.5, sample_size=side,
        )
    )  # fmt: skip
    decoder = setting.peer(
        diffusers.AutoencoderDC(
            latent_channels=32, attention_head_dim=32,
            encoder_block_types=["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
            decoder_block_types=["ResBlock"] * 3 + ["EfficientViTBlock"] * 3,
            encoder_block_out_channels=(128, 256, 512, 512, 1024, 1024),
            decoder_block_out_channels=(128, 256, 512, 512, 1024, 1024),
            encoder_layers_per_block=(0, 4, 8, 2, 2, 2),
            decoder_layers_per_block=(0, 5, 10, 2, 2, 2),
            encoder_qkv_multiscales=((),) * 6, decoder_qkv_multiscales=((),) * 6,
            decoder_norm_types=["batch_norm"] * 3 + ["rms_norm"] * 3,
            decoder_act_fns=["relu"] * 3 + ["silu"] * 3,
            downsample_block_type="pixel_unshuffle", upsample_block_type="pixel_shuffle",
        ).decoder
    )  # fmt: skip
    noisy = setting.random(rows, 32, side, side)
    text, latent = setting.random(rows, setting.text, 2304), noisy[: setting.batch]
    timestep = setting.random(rows).fill_(500)
    return {
        "sana step": Part(
            lambda: network(noisy, encoder_hidden_states=text, timestep=timestep).sample,
            {"sana": STEPS["sana"]},
        ),
        "sana decoder": Part(lambda: decoder(latent), {"sana": 1}),
    }


def pixart(setting: Setting) -> dict[str, Part]:
    """PixArt-alpha and Stable Diffusion's decoder, from diffusers."""
    diffusers: Any = importlib.import_module("diffusers")

    side, rows = setting.size // 8, 2 * setting.batch
    network = setting.peer(
        diffusers.PixArtTransformer2DModel(
            num_attention_heads=16, attention_head_dim=72, in_channels=4, out_channels=8,
            num_layers=28, cross_attention_dim=1152, caption_channels=4096, sample_size=side,
            use_additional_conditions=False,
        )
    )  # fmt: skip
    autoencoder = setting.ready(
        diffusers.AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), layers_per_block=2, latent_channels=4,
            down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
        )
    )  # fmt: skip
    autoencoder.decoder = setting.peer(autoencoder.decoder)  # `decode` is not its forward
    noisy = setting.random(rows, 4, side, side)
    text, latent = setting.random(rows, setting.text, 4096), noisy[: setting.batch]
    timestep = setting.random(rows).fill_(500)
    conditions = {"resolution": None, "aspect_ratio": None}
    return {
        "pixart step": Part(
            lambda: (
                network(
                    noisy,
                    encoder_hidden_states=text,
                    timestep=timestep,
                    added_cond_kwargs=conditions,
                ).sample
            ),
            {"pixart": STEPS["pixart"]},
        ),
        "pixart decoder": Part(lambda: autoencoder.decode(latent).sample, {"pixart": 1}),
    }


def amused(setting: Setting) -> dict[str, Part]:
    """aMUSEd-512, the nearest relative: masked tokens on a 16x grid, from diffusers."""
    diffusers: Any = importlib.import_module("diffusers")
    import torch

    side, rows = setting.size // 16, 2 * setting.batch
    network = setting.peer(diffusers.UVit2DModel(downsample=True, upsample=True, sample_size=side))
    decoder = setting.peer(
        diffusers.VQModel(
            block_out_channels=(128, 256, 256, 512, 768), layers_per_block=2, latent_channels=64,
            down_block_types=("DownEncoderBlock2D",) * 5, up_block_types=("UpDecoderBlock2D",) * 5,
            num_vq_embeddings=8192, mid_block_add_attention=False,
        ).decoder
    )  # fmt: skip
    hidden = torch.full((rows, side, side), 8255, device=setting.device)
    text, pooled = setting.random(rows, min(setting.text, 77), 768), setting.random(rows, 768)
    micro = setting.random(rows, 5).fill_(512)
    latent = setting.random(setting.batch, 64, side, side)
    return {
        "amused step": Part(
            lambda: network(
                hidden, encoder_hidden_states=text, micro_conds=micro, pooled_text_emb=pooled
            ),
            {"amused": STEPS["amused"]},
        ),
        "amused decoder": Part(lambda: decoder(latent), {"amused": 1}),
    }


BUILDERS = {"sana": sana, "pixart": pixart, "amused": amused}


def time_parts(parts: dict[str, Part], *, rounds: int, setting: Setting) -> None:
    """Time every part once a round, in turn; progress on stderr."""
    import torch

    clock = cuda_seconds if setting.device.type == "cuda" else cpu_seconds
    with torch.inference_mode():
        for turn in range(rounds):
            for name, part in parts.items():
                # Twice: what lay idle while the others had their turn is brought back by the first.
                seconds, wall = min(clock(part.run), clock(part.run))
                part.seconds.append(seconds / part.divide)
                part.wall.append(wall / part.divide)
                print(
                    f"round {turn + 1}/{rounds}  {name:44} {part.seconds[-1]:8.2f} s",
                    file=sys.stderr,
                )


def cpu_seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds of the processor, over all threads, and of the clock."""
    import time

    wall, busy = time.perf_counter(), time.process_time()
    run()
    return time.process_time() - busy, time.perf_counter() - wall


def cuda_seconds(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds between two CUDA events, twice, after one call that is not counted."""
    import torch

    run()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    seconds = start.elapsed_time(end) / 1000
    return seconds, seconds


def summarize(parts: dict[str, Part], setting: Setting) -> dict[str, Any]:
    """Parts, totals and ratios of what was timed: the fastest round of each part counts."""
    totals: dict[str, float] = {}
    for part in parts.values():
        for entrant, times in part.times.items():
            seconds = min(part.seconds) * times / setting.batch
            totals[entrant] = totals.get(entrant, 0.0) + seconds
    return {
        "setting": {
            "size": setting.size, "batch": setting.batch, "text": setting.text,
            "precision": str(setting.dtype).removeprefix("torch."), "device": str(setting.device),
            "threads": _threads(), "full": setting.full, "peak_memory_gib": _peak(setting),
        },
        "parts": {
            name: {
                "seconds": min(part.seconds), "wall_seconds": min(part.wall), "times": part.times,
            }
            for name, part in parts.items()
        },
        "totals": totals,
        "ratios": {
            f"{peer}/{entrant}": totals[peer] / totals[entrant]
            for peer in PEERS if peer in totals
            for entrant in totals if entrant not in PEERS
        },
    }  # fmt: skip


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _peak(setting: Setting) -> float:
    import torch

    if setting.device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def race(setting: Setting, peers: Sequence[str], *, rounds: int) -> dict[str, Any]:
    """Build everybody, time them in turn, and say who took what."""
    parts = ours(setting)
    for peer in peers:
        parts |= BUILDERS[peer](setting)
    time_parts(parts, rounds=rounds, setting=setting)
    return summarize(parts, setting)


def table(found: dict[str, Any]) -> str:
    """The result as text."""
    lines = [f"{name:46} {part['seconds']:9.2f} s" for name, part in found["parts"].items()]
    lines += ["", "an image:"]
    lines += [f"  {name:44} {seconds:9.2f} s" for name, seconds in found["totals"].items()]
    lines += ["", "the peer's seconds over ours:"]
    lines += [f"  {name:44} {ratio:9.2f}" for name, ratio in found["ratios"].items()]
    if not found["setting"]["full"]:
        lines += ["", "(steps: a few were timed and multiplied; --full takes every one)"]
    return "\n".join(lines)


def main() -> None:
    """Parse, race, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--size", type=int, choices=(256, 512, 1024), default=512)
    parser.add_argument("--peers", default="sana,pixart", help=f"of {','.join(PEERS)}")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1, help="images at once [1]")
    parser.add_argument("--text", type=int, default=300, help="text tokens, for everybody [300]")
    parser.add_argument("--rounds", type=int, default=2, help="the fastest counts [2]")
    parser.add_argument("--device", default="cpu", help="cpu or cuda [cpu]")
    parser.add_argument("--compile", action="store_true", help="compile everybody's networks")
    parser.add_argument("--full", action="store_true", help="time every step of ours")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    peers = arguments.peers.split(",") if arguments.peers else []
    if unknown := [peer for peer in peers if peer not in PEERS]:
        parser.error(f"peer {unknown[0]!r} is not known; use {', '.join(PEERS)}")
    import torch

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    if peers:
        from diffusers.utils import logging

        logging.set_verbosity_error()  # it advises against casts of modules that these lack
    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    setting = Setting(
        arguments.size, arguments.batch, arguments.text, dtypes[arguments.precision],
        torch.device(arguments.device), arguments.full, arguments.compile,
    )  # fmt: skip
    found = race(setting, peers, rounds=arguments.rounds)
    print(json.dumps(found) if arguments.json else table(found))


if __name__ == "__main__":
    main()
