"""What the tokenizer sees beside scenes: collages of sprites, and pieces of photographs.

    python benchmarks/paper/tokenizer_report.py CKPT --scenes HELD_OUT --photos KEPT \\
        --weights WEIGHTS

Scenes are a folder of `dcar-eval scenes --split held-out`, whose boxes say where the objects are;
photographs are what `benchmarks/paper/photos.py` keeps, resized to 256 px and cropped as `dcar-eval
reconstruction` does. LPIPS with both trunks: training may use one of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, reduce
from torch import Tensor

from dcht import Tokenizer
from dcht.images import list_images, open_image, resize_crop, to_tensor
from dcht.perceptual import LPIPS, load_lpips
from dcht.reconstruct.show import psnr

SIDE = 256


def objects_of(path: Path) -> Tensor:
    """Where a scene's objects are, (1, H, W), True within their boxes."""
    mask = torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    for thing in json.loads(path.with_suffix(".json").read_text())["objects"]:
        left, top, right, bottom = thing["box"]
        mask[:, top:bottom, left:right] = True
    return mask


def psnr_within(output: Tensor, images: Tensor, mask: Tensor) -> Tensor:
    """PSNR (b,) in dB of output against images (b, 3, H, W), of the pixels of mask (b, 1, H, W)."""
    error = reduce((output.clamp(-1, 1) - images).square(), "b c h w -> b 1 h w", "mean")
    inside = (error * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3))
    return 10 * torch.log10(4 / inside)


@torch.no_grad()
def measure(
    tokenizer: Tokenizer, files: list[Path], networks: dict[str, LPIPS], *, boxes: bool
) -> dict[str, dict[str, float]]:
    """Means over images by path and metric."""
    found: dict[str, dict[str, list[float]]] = {"hybrid": {}, "discrete": {}}
    for file in files:
        images = rearrange(
            to_tensor(resize_crop(open_image(file), (SIDE, SIDE))), "c h w -> 1 c h w"
        )
        for path, rows in found.items():
            output = tokenizer.reconstruct(images, path)  # type: ignore[arg-type]
            values = {"psnr": psnr(output, images)}
            if boxes:
                mask = rearrange(objects_of(file), "one h w -> 1 one h w")
                values["psnr_objects"] = psnr_within(output, images, mask)
            for net, network in networks.items():
                values[f"lpips_{net}"] = network(output.clamp(-1, 1), images)
            for name, value in values.items():
                rows.setdefault(name, []).append(value.item())
    return {
        path: {name: round(float(np.mean(values)), 4) for name, values in rows.items()}
        for path, rows in found.items()
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ckpt", type=Path)
    parser.add_argument("--scenes", type=Path, required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="of the perceptual networks")
    parser.add_argument("--out", type=Path, help="where to write it as JSON")
    arguments = parser.parse_args()
    tokenizer = Tokenizer.from_pretrained(arguments.ckpt)
    networks = {net: load_lpips(net, arguments.weights) for net in ("alex", "vgg")}
    result = {"sha256": tokenizer.sha256} | {
        name: measure(tokenizer, list_images(folder), networks, boxes=name == "scenes")
        for name, folder in (("scenes", arguments.scenes), ("photos", arguments.photos))
    }
    text = json.dumps(result, indent=1)
    print(text)
    if arguments.out:
        arguments.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
