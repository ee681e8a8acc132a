"""A run's result for others: `config.json`, `model.safetensors` and a model card.

The weights are the averaged ones. A run keeps its own up to date in `tokenizer/`; `dcht-train
export RUN --out DIR` gives them another home.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

from dcht.checkpoint import CONFIG, WEIGHTS, checkpoint_sha256
from dcht.engine.metrics import METRICS, read_metrics
from dcht.engine.run_folder import published
from dcht.errors import UsageError
from dcht.files import begin, locked, write_atomic
from dcht.hub import CARD, tokenizer_card
from dcht.light import LIGHT, LightDecoder, remove_light
from dcht.tokenizer import Tokenizer
from dcht.train.start import folder_of
from dcht.train_config import PublishDtype, TrainConfig

TOKENIZER = "tokenizer"
"""The folder of a run that holds its result."""
RECORD = "export.json"
"""Beside an exported tokenizer: which one it is, and how it was asked for."""


def publish(
    tokenizer: Tokenizer, config: TrainConfig, *, num_images: int, stages: Sequence[str]
) -> None:
    """Write a run's tokenizer and its card to the run's `tokenizer/`.

    Args:
        tokenizer: what the last of `stages` made.
        config: the run's settings.
        num_images: how many it was trained on.
        stages: what was done so far, as words.
    """
    out = Path(config.out)
    # Names only: where the data lay on this machine is nobody's business.
    start = config.init_from and f"`{Path(config.init_from).name}`"
    facts = {
        "data": f"`{Path(config.data.root).name}`: {num_images:,} images, crops of "
        f"{config.data.crop} px",
        "training": f"{', '.join(stages)}; batches of {config.batch_size}, from "
        f"{start or 'scratch'}, seed {config.seed}; averaged weights",
        "held-out images": _last_validation(out / METRICS),
        "made by": f"dcht {version('dcht')}",
    }
    dtype = getattr(torch, config.publish_dtype.value)
    with published(out / TOKENIZER) as folder:
        if config.light is None:
            parameters = sum(p.numel() for p in tokenizer.parameters())
            card = tokenizer_card(out.resolve().name, tokenizer.config, parameters, facts)
            write_atomic(folder / CARD, card.encode())
            tokenizer.save_pretrained(folder, dtype=dtype)
            return
        _copy(folder_of(config.init_from), folder)
        light = LightDecoder(config.light, tokenizer.decoder)
        light.save(folder, checkpoint_sha256(folder), dtype=dtype)
        parameters = sum(p.numel() for p in light.network.parameters())
        rows = {"parameters": f"{parameters / 1e6:.2f} M", **facts}
        table = "".join(f"| {name} | {value} |\n" for name, value in rows.items())
        card = f"# Light decoder\n\nFor previews of its tokenizer.\n\n| | |\n|---|---|\n{table}"
        write_atomic(folder / LIGHT / CARD, card.encode())


def _copy(source: Path, out: Path) -> None:
    """Copy a tokenizer's own files as they are, its card too, the weights last."""
    for name in (CARD, CONFIG, WEIGHTS):
        if (source / name).is_file():
            write_atomic(out / name, (source / name).read_bytes())


def _last_validation(metrics: Path) -> str:
    rows = read_metrics(metrics) if metrics.exists() else []
    measured = [row for row in rows if "val_psnr_hybrid" in row]
    if not measured:
        return "not measured"
    row = measured[-1]
    return (
        f"PSNR {row['val_psnr_hybrid']:.2f} dB, without the residual "
        f"{row['val_psnr_discrete']:.2f} dB (step {row['step']})"
    )


def export(
    source: str | Path, out: str | Path, *, dtype: PublishDtype | None = None, force: bool = False
) -> str:
    """Publish a run's tokenizer, as of its last stage, in a folder of its own.

    Args:
        source: the run's folder.
        out: the new folder.
        dtype: of the weights; None: the run's files as they are, with the hash that generators
            know them by.
        force: replace what `out` holds.

    Returns:
        The tokenizer's SHA-256.

    Raises:
        UsageError: `source` is no run or has no finished stage, or `out` is there already, or is
            being written.
        CheckpointError: what the run published is damaged.
    """
    folder, out = Path(source) / TOKENIZER, Path(out)
    if not folder.is_dir():
        raise UsageError(
            f"{source} holds no {TOKENIZER}/; name a run's folder (out=) that has ended a stage"
        )
    if out.resolve() == folder.resolve():
        raise UsageError(f"{out} is what the run publishes itself; use another --out")
    with locked(out):
        tokenizer = Tokenizer.from_pretrained(folder)
        card = folder / CARD
        if card.is_file():
            content = card.read_bytes()
        else:  # a run of an older release
            parameters = sum(p.numel() for p in tokenizer.parameters())
            content = tokenizer_card(out.resolve().name, tokenizer.config, parameters).encode()
        made_of = {"tokenizer": tokenizer.sha256, "dtype": dtype and dtype.value}
        begin(out, RECORD, made_of, files=[WEIGHTS], force=force)
        write_atomic(out / CARD, content)
        if dtype is not None:
            return tokenizer.save_pretrained(out, dtype=getattr(torch, dtype.value))
        remove_light(out)
        for name in (CONFIG, WEIGHTS):  # the weights last, as in any checkpoint
            write_atomic(out / name, (folder / name).read_bytes())
        if tokenizer.light is not None:
            (out / LIGHT).mkdir(exist_ok=True)
            _copy(folder / LIGHT, out / LIGHT)
        assert tokenizer.sha256 is not None
        return tokenizer.sha256
