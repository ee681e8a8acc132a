"""A run's result for others: `config.json`, `model.safetensors` and a model card.

The weights are the averaged ones. A run keeps its own up to date in `checkpoint/`; `dcar-train
export RUN --out DIR` gives them another home.
"""

from __future__ import annotations

import os
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch

from dcar.config import CheckpointConfig, TokenizerReference
from dcar.train.trainer import Trainer
from dcar.train_config import PublishDtype
from dcar.weights.pretrained import load_pretrained, refer_to_tokenizer, save_pretrained
from dcht.checkpoint import WEIGHTS
from dcht.engine.metrics import METRICS, read_metrics
from dcht.engine.run_folder import published
from dcht.errors import CheckpointError, UsageError
from dcht.files import begin, locked, write_atomic
from dcht.hub import CARD, model_card

CHECKPOINT = "checkpoint"
RECORD = "export.json"
"""Beside an exported checkpoint: which one it is, and how it was asked for."""


def publish(trainer: Trainer) -> None:
    """Write the averaged weights to the run's `checkpoint/`; all ranks call this together."""
    model, text = trainer.averaged()
    if trainer.world.main:
        settings = trainer.config
        folder = Path(settings.out) / CHECKPOINT
        height, width = trainer.size
        config = CheckpointConfig(
            model=settings.model,
            tokenizer=refer_to_tokenizer(trainer.tokenizer, settings.tokenizer_ckpt, folder),
            sampling=settings.sampling,
            height=height,
            width=width,
            rounding=settings.rounding,
        )
        dtype = getattr(torch, settings.publish_dtype.value)
        with published(folder) as staging:
            write_atomic(staging / CARD, trained_card(trainer, config).encode())
            save_pretrained(staging, model, text, config, dtype=dtype)
    trainer.world.barrier()


def trained_card(trainer: Trainer, config: CheckpointConfig) -> str:
    """What was trained, on what and for how long, with the Hub's metadata on top."""
    settings, data = trainer.config, trainer.data
    # Names only: where the data lay on this machine is nobody's business.
    sources = [settings.data, *settings.data.mixture]
    roots = ", ".join(f"`{Path(source.root).name}`" for source in sources)
    classes = config.model.text.classes
    what, prompt, told = "captions", "a prompt", "text"
    encoder = config.model.text.name or "a small one, trained jointly, in these weights"
    if classes is not None:
        what, prompt, told = "classes", classes.names[0], "class"
        encoder = f"none: {len(classes.names)} classes, by name or number"
    start = settings.init_from
    start = start if start in ("scratch", "bundled") else Path(start).name
    generator, head = trainer.learner.model.generator, trainer.learner.model.head
    millions = [
        sum(p.numel() for p in part.parameters()) / 1e6 if part is not None else 0.0
        for part in (generator, head)
    ]
    sampling = config.sampling
    facts = {
        "parameters": f"generator {millions[0]:.2f} M, residual head {millions[1]:.2f} M",
        "text encoder": encoder,
        "image tokenizer": f"SHA-256 `{config.tokenizer.sha256}`, {config.tokenizer.location}",
        "pixels": f"{config.width} x {config.height}",
        "data": f"{roots}: {len(data)} images, {sum(map(len, data.captions))} {what} "
        f"(SHA-256 of the {what} `{trainer.contents['captions']}`)",
        "training": f"{trainer.step} of {settings.steps} steps of {settings.batch_size} images, "
        f"from {start}, seed {settings.seed}; averaged weights",
        "last logged": _last_logged(Path(settings.out) / METRICS),
        "sampling": f"{sampling.num_steps} steps, guidance {sampling.cfg_scale:g}, temperature "
        f"{sampling.temperature:g}, {sampling.num_diffusion_steps} steps of the head",
        "made by": f"dcar {version('dcar')}",
    }
    return model_card(
        Path(settings.out).resolve().name,
        library="dcar",
        tag="text-to-image",
        about=f"A DC-AR generator (ICCV 2025): {told} to image, masked autoregressive over a "
        "hybrid tokenizer. It generates what its training images and captions showed, and what "
        "they had wrong.",
        use=f'dcar generate "{prompt}" --ckpt FOLDER --out image.png',
        facts=facts,
    )


def _last_logged(metrics: Path) -> str:
    rows = read_metrics(metrics) if metrics.exists() else []
    losses = [row for row in rows if "cross_entropy" in row]
    if not losses:
        return "nothing yet"
    row = losses[-1]
    return (
        f"step {row['step']}: cross-entropy {row['cross_entropy']:.3f}, diffusion "
        f"{row['diffusion']:.3f}, accuracy of masked indices {row['accuracy']:.3f}"
    )


def export(
    source: str | Path,
    out: str | Path,
    *,
    dtype: PublishDtype = PublishDtype.float32,
    tokenizer: str | None = None,
    force: bool = False,
) -> str:
    """Publish a run's averaged weights, as of its last save, in a folder of their own.

    Args:
        source: the run's folder.
        out: the new folder.
        dtype: precision of the weights.
        tokenizer: where others find the image tokenizer (a folder or Hub id); None: where it is.
        force: replace what `out` holds.

    Returns:
        The checkpoint's SHA-256.

    Raises:
        UsageError: `source` is no run or has not saved yet, or `out` is there already, or is
            being written.
        CheckpointError: what the run published is damaged.
    """
    source, out = Path(source), Path(out)
    checkpoint = source / CHECKPOINT
    if not checkpoint.is_dir():
        raise UsageError(
            f"{source} holds no {CHECKPOINT}/; name a run's folder (out=) that has saved once"
        )
    if out.resolve() == checkpoint.resolve():
        raise UsageError(f"{out} is what the run publishes itself; use another --out")
    with locked(out):
        return _export(checkpoint, out, dtype, tokenizer, force=force)


def _export(
    checkpoint: Path, out: Path, dtype: PublishDtype, tokenizer: str | None, *, force: bool
) -> str:
    found = load_pretrained(checkpoint)
    try:
        card = (checkpoint / CARD).read_bytes()
    except OSError:
        raise CheckpointError(f"{checkpoint} has no {CARD}; let the run save once more") from None
    reference = _moved(found.config.tokenizer, checkpoint, out, tokenizer)
    made_of = {"checkpoint": found.sha256, "dtype": dtype.value, "tokenizer": tokenizer}
    begin(out, RECORD, made_of, files=[WEIGHTS], force=force)
    old, new = found.config.tokenizer.location, reference.location
    write_atomic(out / CARD, card.replace(f", {old} |".encode(), f", {new} |".encode()))
    config = replace(found.config, tokenizer=reference)
    return save_pretrained(out, found.model, found.text, config, dtype=getattr(torch, dtype.value))


def _moved(
    reference: TokenizerReference, old: Path, new: Path, wanted: str | None
) -> TokenizerReference:
    """A reference from folder `old`, seen from folder `new`."""
    location = reference.location if wanted is None else wanted
    folder = old / location if wanted is None else Path(wanted)
    if location != "bundled" and folder.is_dir():
        location = os.path.relpath(folder.resolve(), new.resolve())
    return replace(reference, location=location)
