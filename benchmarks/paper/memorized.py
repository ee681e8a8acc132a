"""32 photographs learned by heart: gathering them, and the image and numbers of what came back.

`docs/finetune.md`, "Learned by heart", has the commands in their order.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import torch
from einops import reduce
from photos import find_photos

from dcar import TextToImage
from dcht.images import grid, list_images, open_image, resize_crop, save_png, to_pil, to_tensor

SIDE, SHOWN, PHOTOS_A_ROW = 256, 112, 4


def gather(roots: list[Path], out: Path) -> None:
    """Copy the photographs of the table from below some folders, with captions beside them."""
    out.mkdir(parents=True, exist_ok=True)
    for number, photo in enumerate(find_photos(roots)):
        copy = out / f"{number:02d}{photo.path.suffix}"
        shutil.copy(photo.path, copy)
        copy.with_suffix(".txt").write_text(photo.caption + "\n")


@torch.inference_mode()
def show(photos: Path, checkpoint: Path, out: Path, *, steps: int) -> dict[str, float]:
    """Draw photograph, reconstruction and what its caption gives, four to a row.

    Returns:
        How many images are nearer to their own reconstruction than to any other one (by mean
        squared error), and their mean PSNR against it in dB.
    """
    pipe = TextToImage.from_pretrained(checkpoint)
    files = list_images(photos)
    captions = [file.with_suffix(".txt").read_text().strip() for file in files]
    images = torch.stack([to_tensor(resize_crop(open_image(f), (SIDE, SIDE))) for f in files])
    best = pipe.tokenizer.reconstruct(images).clamp(-1, 1)
    made = pipe(captions, height=SIDE, width=SIDE, num_steps=steps).images
    drawn = torch.stack([to_tensor(image) for image in made])
    errors = torch.stack([reduce((best - one).square(), "b c h w -> b", "mean") for one in drawn])
    triples = zip(images, best, drawn, strict=True)
    small = [to_pil(pixels).resize((SHOWN, SHOWN)) for triple in triples for pixels in triple]
    save_png(grid(small, 3 * PHOTOS_A_ROW), out)
    own = errors.diagonal()
    return {
        "photos": len(files),
        "nearest_to_their_own": int((errors.argmin(dim=1) == torch.arange(len(files))).sum()),
        "psnr_against_reconstruction": float((10 * (4 / own).log10()).mean()),
        "psnr_of_reconstruction": float(
            (10 * (4 / reduce((images - best).square(), "b c h w -> b", "mean")).log10()).mean()
        ),
    }


def main() -> None:
    """Parse and call."""
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    first = verbs.add_parser("gather")
    first.add_argument("roots", type=Path, nargs="+", help="folders with the packages' files")
    second = verbs.add_parser("show")
    second.add_argument("photos", type=Path)
    second.add_argument("--ckpt", type=Path, required=True)
    second.add_argument("--num-steps", type=int, default=12)
    for verb in (first, second):
        verb.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.verb == "gather":
        gather(arguments.roots, arguments.out)
    else:
        steps = arguments.num_steps
        print(json.dumps(show(arguments.photos, arguments.ckpt, arguments.out, steps=steps)))


if __name__ == "__main__":
    main()
