"""Does a generator read the order of words? Captions against the same words in another order.

    python benchmarks/paper/word_order.py CHECKPOINT SCENES LATENTS

Of the first scenes in SCENES (`dcar-eval scenes`) whose caption has another order to be held
against, 64 of a kind: the cross-entropy of their indices (LATENTS: `dcht encode SCENES`) when all
are hidden, under their own caption and under the swapped one; and how many prefer their own.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange

from dcar import TextToImage
from dcar_eval.scenes.captions import OPPOSITES, captions
from dcar_eval.scenes.world import Scene, SceneObject, Task
from dcht.commands.common import OK, run
from dcht.errors import UsageError
from dcht.latents import LatentsStore

NUMBER = 64


def read_scene(truth: dict[str, Any]) -> Scene:
    """The scene that a `.json` describes."""
    objects = (SceneObject(name=o["class"], color=o["colour"]) for o in truth["objects"])
    relations = [clause["position"][0] for clause in truth["include"] if "position" in clause]
    return Scene(
        task=Task(truth["tag"]), objects=tuple(objects), relation=next(iter(relations), None)
    )


def swapped(scene: Scene) -> dict[str, Scene]:
    """Other scenes of the same words, by what was exchanged."""
    names = [thing.name for thing in scene.objects]
    colors = [thing.color for thing in scene.objects]
    found = {}
    if scene.relation is not None:
        found["relation"] = replace(scene, relation=OPPOSITES[scene.relation])
    elif len(set(names)) > 1:
        found["objects"] = replace(scene, objects=scene.objects[1:] + scene.objects[:1])
        if None not in colors and len(set(colors)) == len(colors):
            pairs = zip(names, colors[1:] + colors[:1], strict=True)
            others = tuple(SceneObject(name=name, color=color) for name, color in pairs)
            found["colours"] = replace(scene, objects=others)
    return found


@torch.inference_mode()
def losses(pipe: TextToImage, indices: torch.Tensor, texts: Sequence[str]) -> torch.Tensor:
    """The mean cross-entropy (b,) of indices (b, h, w), all hidden, under texts."""
    tokens = pipe.text.tokenize(texts)
    generator = pipe.model.generator
    hidden = torch.full_like(indices, generator.mask_id)
    logits = generator(hidden, pipe.text(tokens.ids, tokens.mask), tokens.mask).logits
    targets = rearrange(indices, "b h w -> b (h w)")
    return F.cross_entropy(logits.transpose(1, 2), targets, reduction="none").mean(dim=1)


def read_truth(scenes: Path, file: str) -> dict[str, Any]:
    """What is beside an encoded image.

    Raises:
        UsageError: nothing is, so the latents are of other scenes.
    """
    path = (scenes / file).with_suffix(".json")
    if not path.exists():
        raise UsageError(f"{path} is not there: the latents must be those of {scenes}")
    return json.loads(path.read_text())


def main() -> int:
    """Print a line for each kind of exchange."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("checkpoint", "scenes", "latents"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    pipe = TextToImage.from_pretrained(arguments.checkpoint)
    store = LatentsStore(arguments.latents)
    cases = defaultdict(list)
    for number, row in enumerate(store.rows):
        scene = read_scene(read_truth(arguments.scenes, row["file"]))
        for kind, other in swapped(scene).items():
            if len(cases[kind]) < NUMBER:
                cases[kind].append((number, captions(scene)[0], captions(other)[0]))
        if len(cases) == 3 and all(len(found) == NUMBER for found in cases.values()):
            break
    for kind, found in cases.items():
        numbers, own, others = zip(*found, strict=True)
        indices = torch.stack([store.read(number)[0] for number in numbers])
        right, wrong = losses(pipe, indices, own), losses(pipe, indices, others)
        print(
            f"{kind}: {right.mean():.2f} under their own caption, {wrong.mean():.2f} swapped; "
            f"{int((right < wrong).sum())} of {len(found)} prefer their own"
        )
    return OK


if __name__ == "__main__":
    run(main)
