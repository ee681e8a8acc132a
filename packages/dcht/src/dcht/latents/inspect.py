"""What a store of latents holds, and whether it is whole: the work behind `dcht inspect`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from dcht.errors import CheckpointError, printable
from dcht.files import file_sha256
from dcht.latents import LatentsStore

PLOT = (900, 420)
MARGIN = 64


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Counts, the use of the codebook, and the residual of a store.

    Of a store of continuous latents there are no codes, and residual stands for the latent.
    """

    images: int
    captioned: int
    skipped: int
    shards: int
    bytes: int
    width: int
    height: int
    transform: str
    tokenizer_sha256: str
    tokens: int
    codebook_size: int | None
    codes_used: int
    perplexity: float
    """2 to the entropy of the codes, as far as these tokens show it; the codebook size at best, and
    0 without codes."""
    residual_mean: float
    residual_std: float
    """Measured; `residual_std` of the tokenizer is what its training measured."""
    residual_max: float
    """Largest magnitude."""
    tokenizer_residual_std: float | None
    files_checked: int
    """Files whose SHA-256 is the manifest's; 0 for a store of dcht 0.1.0, which has none."""

    def lines(self) -> str:
        """For reading."""
        known = self.tokenizer_residual_std
        spread = f"mean {self.residual_mean:.5f}, std {self.residual_std:.5f}"
        if self.codebook_size is None:
            values = [
                f"latents     continuous, without codes: {spread}, largest {self.residual_max:.4f}"
            ]
        else:
            values = [
                f"codes       {self.codes_used:,} of {self.codebook_size:,} used by "
                f"{self.tokens:,} tokens, perplexity {self.perplexity:,.1f}",
                f"residual    {spread} (the tokenizer's: "
                f"{'none' if known is None else f'{known:.5f}'}), largest {self.residual_max:.4f}",
            ]
        return "\n".join(
            [
                f"images      {self.images:,} in {self.shards} shards ({self.bytes / 1e6:,.1f} MB),"
                f" {self.captioned:,} with a caption, {self.skipped:,} inputs skipped",
                f"pixels      {self.width} x {self.height}, {printable(self.transform)}",
                f"tokenizer   {printable(self.tokenizer_sha256)}",
                *values,
                f"hashes      {self.files_checked} files are what the manifest says"
                if self.files_checked
                else "hashes      none recorded: encoded by dcht 0.1.0",
            ]
        )


def inspect_store(store: LatentsStore) -> tuple[Inspection, np.ndarray]:
    """Read a whole store once; also returns how often each code occurs, (codebook_size,) int64.

    There is none of a store of continuous latents.

    Raises:
        CheckpointError: a file is missing, is not what the manifest says, or holds a value that
            cannot be.
    """
    manifest, plan = store.manifest, store.plan
    for name, expected in manifest.sha256.items():
        try:
            found = file_sha256(store.folder / name)
        except OSError as error:
            raise CheckpointError(
                f"{store.folder / name} is missing or damaged: {error.strerror}; repeat its "
                "dcht encode with --force"
            ) from None
        if found != expected:
            raise CheckpointError(
                f"{store.folder / name} has SHA-256 {found}, the manifest says {expected}: it is "
                "damaged or was changed; repeat its dcht encode with --force"
            )
    codes = plan.codebook_size or 0
    histogram = torch.zeros(codes, dtype=torch.long)
    count, total, squares, largest = 0, 0.0, 0.0, 0.0
    for shard in range(len(manifest.shards)):
        indices, stored = store.read_shard(shard)
        residual = stored.double()
        if not residual.numel():
            continue
        if indices is not None:
            histogram += torch.bincount(indices.flatten(), minlength=codes)
        count += residual.numel()
        total += float(residual.sum())
        squares += float(residual.square().sum())
        largest = max(largest, float(residual.abs().max()))
    mean = total / max(count, 1)
    share = histogram[histogram > 0].double() / max(1, int(histogram.sum()))
    return Inspection(
        images=len(store),
        captioned=sum(row.get("caption") is not None for row in store.rows),
        skipped=manifest.skipped,
        shards=len(manifest.shards),
        bytes=sum(path.stat().st_size for path in store.folder.iterdir() if path.is_file()),
        width=plan.width,
        height=plan.height,
        transform=plan.transform,
        tokenizer_sha256=plan.tokenizer_sha256,
        tokens=int(histogram.sum()),
        codebook_size=plan.codebook_size,
        codes_used=len(share),
        perplexity=float(2 ** -(share * share.log2()).sum()) if codes else 0.0,
        residual_mean=mean,
        residual_std=max(0.0, squares / max(count, 1) - mean**2) ** 0.5,
        residual_max=largest,
        tokenizer_residual_std=plan.residual_std,
        files_checked=len(manifest.sha256),
    ), histogram.numpy()


def plot_codes(histogram: np.ndarray, title: str) -> Image.Image:
    """How often codes occur, the most frequent first, on a logarithmic scale."""
    image = Image.new("RGB", PLOT, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    left, top, right, bottom = MARGIN, MARGIN // 2, PLOT[0] - 16, PLOT[1] - MARGIN
    counts = np.sort(histogram)[::-1]
    decades = max(1, int(np.ceil(np.log10(max(1, counts[0])))))
    for decade in range(decades + 1):
        y = bottom - (bottom - top) * decade / decades
        draw.line((left, y, right, y), fill="#dddddd")
        draw.text((left - 6, y), f"{10**decade:,}", fill="black", font=font, anchor="rm")
    # A column of pixels covers several codes, or a code several columns.
    for x in range(left, right):
        count = counts[(x - left) * len(counts) // (right - left)]
        if count:
            y = bottom - (bottom - top) * np.log10(count) / decades
            draw.line((x, bottom, x, min(y, bottom - 1)), fill="#4c72b0")
    used = int((histogram > 0).sum())
    edge = left + (right - left) * used / len(counts)
    draw.line((edge, top, edge, bottom), fill="#c44e52")
    draw.text((edge - 6, top + 4), f"{used:,} used", fill="#c44e52", font=font, anchor="ra")
    for code in (0, len(counts) // 2, len(counts)):
        x = left + (right - left) * code / len(counts)
        draw.text((x, bottom + 8), f"{code:,}", fill="black", font=font, anchor="ma")
    axes = "codes, the most frequent first; the height is how often each occurs"
    draw.text(((left + right) / 2, bottom + 30), axes, fill="black", font=font, anchor="ma")
    draw.text((left, 8), title, fill="black", font=font)
    return image
