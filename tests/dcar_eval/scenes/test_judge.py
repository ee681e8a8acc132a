"""Judging images beside the truth: right, recognizable, like it; and without artwork."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageFilter

from dcar_eval.geneval import Detection
from dcar_eval.scenes.judge import Art, Judged, judge
from dcar_eval.scenes.layout import box_of, render_layout
from dcar_eval.scenes.likeness import IDENTICAL, RECOGNIZABLE
from dcar_eval.scenes.prompts import Prompt, sample_prompts
from dcar_eval.scenes.recognizer import Recognizer
from dcar_eval.scenes.sprites import Sprites
from dcar_eval.scenes.world import BENCHMARK
from dcht import Tokenizer

OBJECTS = ("apple", "banana", "car", "dog")


def shrunk(image: Image.Image, side: int = 16) -> Image.Image:
    """To 16 x 16 pixels and back."""
    small = image.resize((side, side), Image.Resampling.BOX)
    return small.resize(image.size, Image.Resampling.BICUBIC)


def saved(images: Sequence[Image.Image], folder: Path) -> list[Path]:
    folder.mkdir()
    files = [folder / f"{number:05d}.png" for number in range(len(images))]
    for file, image in zip(files, images, strict=True):
        image.save(file)
    return files


def gated(judged: Judged) -> float:
    return judged.mean("gated", (task.value for task in BENCHMARK))


class Oracle(Recognizer):
    """A recognizer that sees in image k what its prompt asks for, whatever it shows."""

    def __init__(self, prompts: Sequence[Prompt], sprites: Sprites) -> None:
        super().__init__(Recognizer.from_pretrained()[0].config)
        self.prompts, self.sprites, self.seen = list(prompts), sprites, 0

    def detect(self, images: Sequence[Image.Image]) -> list[list[Detection]]:
        right = self.prompts[self.seen % len(self.prompts)].right(images[0].width)
        self.seen += len(images)
        return [
            [
                Detection(
                    class_name=thing.name,
                    score=0.9,
                    box=box_of(thing, self.sprites),
                    color=thing.color or "white",
                )
                for thing in right.objects
            ]
        ]


def test_beside_the_truth_the_right_images_pass_and_their_ghosts_do_not(
    npm_folder: Path, tmp_path: Path, tokenizer: Tokenizer
) -> None:
    """A recognizer that reads content alone says of all of them that they are correct."""
    art = Art(sprites=Sprites(npm_folder, OBJECTS), tokenizer=tokenizer)
    prompts = sample_prompts(OBJECTS, num_per_task=1, seed=0)
    oracle = Oracle(prompts, art.sprites)
    right = [render_layout(prompt.right(256), art.sprites) for prompt in prompts]
    ways = {
        "right": right,
        "ghosts": [shrunk(image) for image in right],
        "fog": [image.filter(ImageFilter.GaussianBlur(10)) for image in right],
    }
    found = {
        name: judge(oracle, saved(images, tmp_path / name), prompts, art)
        for name, images in ways.items()
    }
    assert all(row["correct"] for judged in found.values() for row in judged.rows)
    assert {name: gated(judged) for name, judged in found.items()} == {
        "right": 1, "ghosts": 0, "fog": 0,
    }  # fmt: skip
    fidelity = found["right"].fidelity()
    assert not fidelity["estimated"]
    assert (fidelity["psnr"], fidelity["psnr_objects"]) == (IDENTICAL, IDENTICAL)
    assert fidelity["lpips"] is None
    # The ceiling is the tokenizer's, which this one has not learnt to do well.
    assert fidelity["ceiling"]["psnr"] < found["fog"].fidelity()["psnr"] < IDENTICAL
    row = found["fog"].rows[0]
    assert row["fidelity"]["detail"] < RECOGNIZABLE


def test_without_artwork_nothing_is_said_of_the_truth(npm_folder: Path, tmp_path: Path) -> None:
    sprites = Sprites(npm_folder, OBJECTS)
    prompts = sample_prompts(OBJECTS, num_per_task=1, seed=0)
    images = [render_layout(prompt.right(64), sprites) for prompt in prompts]
    judged = judge(Oracle(prompts, sprites), saved(images, tmp_path / "right"), prompts)
    assert judged.mean("correct", (task.value for task in BENCHMARK)) == 1
    assert set(judged.fidelity().values()) == {None}
    assert all("gated" not in row for row in judged.rows)
