"""`benchmarks/paper/gallery.py`: its rules, and every image of the page on a small canvas."""

import importlib.util
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from dcar import TextToImage
from dcar_eval.hard.grammar import BENCHMARK
from dcar_eval.hard.prompts import load
from dcar_eval.scenes.held_out import held_out
from dcar_eval.scenes.world import WORLDS

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "paper" / "gallery.py"
SPEC = importlib.util.spec_from_file_location("gallery", SCRIPT)
assert SPEC is not None and SPEC.loader is not None
gallery = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(gallery)
SIDE = 128


@pytest.fixture(scope="module")
def pipe() -> TextToImage:
    """The bundled checkpoint, in a hurry."""
    pipe = TextToImage.from_pretrained()
    pipe.size = (SIDE, SIDE)
    pipe.sampling = replace(pipe.sampling, num_steps=2, num_diffusion_steps=2)
    return pipe


def benchmark(folder: Path, weights: str | None) -> Path:
    """A run that judged nine images of one task wrong, and one right."""
    (folder / "images").mkdir(parents=True)
    rows = []
    for number in range(10):
        name = f"{number:05d}.png"
        Image.new("RGB", (SIDE, SIDE)).save(folder / "images" / name)
        row = {"file": name, "tag": "colors", "prompt": "a red apple", "reason": "found no apple"}
        rows.append(row | {"correct": number == 0})
    (folder / "images.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    results = {"settings": {"weights": weights}, "overall": 0.5, "n": 10}
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def test_every_object_once_in_the_next_color() -> None:
    prompts = gallery.object_prompts(WORLDS["wide"])
    assert len(prompts) == 30
    assert prompts[:2] == ["a photo of a red airplane", "a photo of an orange apple"]
    assert prompts[10] == "a photo of a red cake" and prompts[-1] == "a photo of a white umbrella"


def test_a_held_out_prompt_for_each_task() -> None:
    objects = WORLDS["wide"]
    prompts = gallery.task_prompts(objects)
    assert len(set(prompts)) == 6 and prompts == gallery.task_prompts(objects)
    color, name = prompts[3].removeprefix("a photo of ").split(" ", 1)[1].split(" ", 1)
    assert (f"in {color}", name) in held_out(objects)


def test_one_of_so_many_things_and_a_sentence_of_each_harder_task() -> None:
    names = [f"thing {number:03d}" for number in reversed(range(27))]
    assert gallery.thing_prompts(names) == [f"a photo of a thing {n:03d}" for n in (0, 13, 26)]
    sentences = gallery.hard_prompts()
    unseen = {row["prompt"]: row["tag"] for row in load()["prompts"] if not row["seen"]}
    assert len({unseen[prompt] for prompt in sentences}) == len(sentences) == len(BENCHMARK)


def test_outside_is_outside(pipe: TextToImage) -> None:
    prompts = gallery.outside_prompts(WORLDS["wide"])
    assert prompts[1] == "seven airplanes"
    assert all(pipe.text.unknown_words(prompt) for prompt in prompts)


def test_one_command_makes_the_page_with_every_image(pipe: TextToImage, tmp_path: Path) -> None:
    run = benchmark(tmp_path / "run", pipe.sha256)
    gallery.generate_all(pipe, run, tmp_path)
    asked = (tmp_path / "gallery.txt").read_text().splitlines()[-6:]
    sizes = {}
    for path in (tmp_path / "pictures").iterdir():
        with Image.open(path) as image:
            sizes[path.name] = image.size
    cells = (6 * (SIDE + 4) - 4, 2 * (SIDE + 4) - 4)
    assert sizes.keys() == {
        "failures.png", "gallery.png", "film.gif", "outside.png", "paths.png", "sizes.png",
        "editing.png",
    }  # fmt: skip
    assert sizes["paths.png"] == cells
    assert sizes["sizes.png"] == (3 * (2 * SIDE + 4) - 4, 2 * (2 * SIDE + 4) - 4)
    assert sizes["failures.png"][0] == 6 * (192 + 4) - 4 and sizes["failures.png"][1] < 2 * 192
    with Image.open(tmp_path / "pictures" / "paths.png") as image:
        discrete = image.crop((0, 0, SIDE, SIDE))
        hybrid = image.crop((0, SIDE + 4, SIDE, 2 * SIDE + 4))
    page = (tmp_path / "gallery.md").read_text()
    linked = set(re.findall(r"\]\(pictures/([^)]+)\)", page))
    assert linked == sizes.keys() - {"editing.png"}
    assert "score is 0.500 on 10 held-out" in page and "'night'" in page and "'riding'" in page
    # What `dcar generate` makes of the prompt is the hybrid one.
    assert hybrid.tobytes() == pipe(asked).images[0].tobytes() != discrete.tobytes()


def test_the_failures_of_another_checkpoint_are_refused(pipe: TextToImage, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="judged the weights 0123"):
        gallery.generate_all(pipe, benchmark(tmp_path / "run", "0123"), tmp_path)
    assert not (tmp_path / "pictures").exists()
