"""What a protocol measures of reconstructions, and the networks that it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from dcar_eval.metrics.features import Extractor, load_extractor
from dcar_eval.metrics.pairs import PAIR_METRICS
from dcar_eval.metrics.pixels import channels_last, psnr, ssim
from dcar_eval.metrics.protocol import (
    FID_NETWORKS,
    PROTOCOLS,
    Lpips,
    Protocol,
    Psnr,
    Ssim,
    fid_name,
)
from dcar_eval.metrics.sets import METRICS
from dcht.errors import CheckpointError, UsageError
from dcht.images import scale
from dcht.perceptual import Net, load_lpips

HOW_TO_GET = "`python -m dcht.perceptual --help` says how to get the weights"
LPIPS_NETS: dict[Lpips, tuple[Net, ...]] = {
    Lpips.both: ("vgg", "alex"),
    Lpips.alex: ("alex",),
    Lpips.none: (),
}


FURTHER = {**PAIR_METRICS, **METRICS}
"""What `dcar-eval reconstruction --metrics` takes: of a pair of images, and of the two sets."""


@dataclass(kw_only=True)
class MetricNetworks:
    """A protocol with the networks that there are weights for, and why others are left out."""

    protocol: Protocol = field(default_factory=lambda: PROTOCOLS["dcar"])
    lpips: dict[str, nn.Module] = field(default_factory=dict)
    """By metric: (b, 3, H, W) in [-1, 1], twice, to distances (b,)."""
    extractor: Extractor | None = None
    """Of rFID."""
    further: list[str] = field(default_factory=list)
    """Of `FURTHER`: beside the protocol, whose hash they leave alone."""
    left_out: dict[str, str] = field(default_factory=dict)
    """By metric: what was missing."""

    @property
    def metrics(self) -> list[str]:
        """Everything that can be measured, in the order of a table."""
        pixelwise = [
            *(["psnr"] if self.protocol.psnr is not Psnr.none else []),
            *(["ssim"] if self.protocol.ssim is not Ssim.none else []),
        ]
        name = self.protocol.fid
        sets = [fid_name(kind, name) for kind in ("rfid", "kid")] if self.extractor else []
        return [*pixelwise, *self.lpips, *sets]


def load_networks(
    protocol: Protocol,
    *,
    device: torch.device,
    lpips_weights: str | None = None,
    inception_weights: str | None = None,
    further: Sequence[str] = (),
) -> MetricNetworks:
    """Load what a protocol needs from these places, or from where it usually is.

    Raises:
        UsageError: a place that was named does not exist, an extractor is not known, nothing can
            be measured, or `further` metrics lack their features.
        CheckpointError: the Inception file is another one than pytorch-fid's.
    """
    for place in (lpips_weights, inception_weights):
        if place and not Path(place).exists():
            raise UsageError(f"{place} does not exist; expected weights, or a folder with them")
    if lpips_weights and not LPIPS_NETS[protocol.lpips]:
        raise UsageError(
            f"--lpips-weights {lpips_weights} are for LPIPS, which protocol {protocol.name} has not"
        )
    networks = MetricNetworks(protocol=protocol, further=list(further))
    for net in LPIPS_NETS[protocol.lpips]:
        try:
            networks.lpips[f"lpips_{net}"] = load_lpips(net, lpips_weights).to(device)
        except (UsageError, CheckpointError) as error:
            # One file is one trunk: what fits the one does not fit the other.
            reason = str(error).partition("; ")[0]
            networks.left_out[f"lpips_{net}"] = f"{reason}; {HOW_TO_GET}"
    try:
        networks.extractor = load_extractor(
            protocol.fid, device=device, inception_weights=inception_weights
        )
    except UsageError as error:
        if set(further) & set(METRICS) or not networks.metrics or protocol.fid not in FID_NETWORKS:
            raise
        networks.left_out["rfid"] = str(error)
    return networks


def measure(
    images: Tensor, others: Tensor, networks: MetricNetworks, device: torch.device
) -> list[dict[str, float | None]]:
    """The metrics of each pair of uint8 images, (b, 3, H, W) both."""
    protocol = networks.protocol
    rows: list[dict[str, float | None]] = [{} for _ in images]
    pairs = zip(channels_last(images), channels_last(others), rows, strict=True)
    for image, other, row in pairs:
        if protocol.psnr is not Psnr.none:
            row["psnr"] = psnr(image, other)
        if protocol.ssim is not Ssim.none:
            row["ssim"] = ssim(image, other, protocol.ssim)
        for name in networks.further:
            if name in PAIR_METRICS:
                row[name] = PAIR_METRICS[name].compute(image, other)
    pair = [scale(pixels.to(device)) for pixels in (images, others)]
    for name, distance in networks.lpips.items():
        for row, value in zip(rows, distance(pair[0], pair[1]).tolist(), strict=True):
            row[name] = value
    return rows
