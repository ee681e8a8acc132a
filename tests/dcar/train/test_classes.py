"""Class-conditional training: from labels of a data set to images of a class."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dcar.config import PRESETS, ClassesConfig, TextConfig
from dcar.data import open_data
from dcar.data.image_sets import list_images
from dcar.modules.classes import ClassEncoder, sort_classes
from dcar.pipeline import TextToImage
from dcar.train import train
from dcar.train.start import load_image_tokenizer, start_weights
from dcar.train_config import DataConfig, DataKind, TrainConfig
from dcar.weights.pretrained import load_pretrained
from dcht import Tokenizer, UsageError
from dcht.checkpoint import to_written
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings

LAYOUT = replace(PRESETS["tiny"], text=TextConfig(name=None, classes=ClassesConfig()))


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    """Three folders of plain images: dark ones, gray ones and light ones."""
    for name, level in (("dark", 10), ("gray", 120), ("light", 240)):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for k in range(4):
            image = Image.fromarray(np.full((64, 64, 3), level + k, dtype=np.uint8))
            image.save(tmp_path / "classes" / name / f"{k}.png")
    return tmp_path / "classes"


@pytest.fixture
def run(config: TrainConfig, classes: Path, saved_tokenizer: Path, tmp_path: Path) -> TrainConfig:
    """A class-conditional run on their latents."""
    settings = EncodeSettings(size=(64, 64), batch_size=4)
    encode_images(
        Tokenizer.from_pretrained(saved_tokenizer), classes, tmp_path / "encoded", settings
    )
    data = DataConfig(kind=DataKind.latents, root=str(tmp_path / "encoded"))
    return replace(config, model=LAYOUT, data=data, prompts=[])


def classes_of(folder: Path) -> ClassEncoder:
    text = load_pretrained(folder).text
    assert isinstance(text, ClassEncoder)
    return text


def test_the_order_of_classes_is_one_whatever_the_hash_of_texts() -> None:
    """Folders `1` and `01` are two classes: which is which must not change when a run goes on."""
    names = ["b", "10", *("0" * k + "1" for k in range(8)), "02", "2", "a"]
    wanted = [*("0" * k + "1" for k in reversed(range(8))), "02", "2", "10", "a", "b"]
    assert sort_classes(names) == sort_classes(reversed(names)) == wanted


def test_a_class_is_learned_and_generated_by_name_or_number(run: TrainConfig) -> None:
    run.optimizer = replace(run.optimizer, lr=1e-2)
    assert train(replace(run, steps=60, sample_every=60, save_every=60))
    checkpoint = Path(run.out) / "checkpoint"
    written = json.loads((checkpoint / "config.json").read_text())
    assert written["model"]["text"]["classes"] == {"names": ["dark", "gray", "light"]}
    assert not (checkpoint / "tokenizer.json").exists()
    card = (checkpoint / "README.md").read_text()
    assert "none: 3 classes, by name or number" in card and 'dcar generate "dark"' in card
    pipe = TextToImage.from_pretrained(checkpoint)
    data = open_data(run.data, pipe.tokenizer, labels=True)
    names = [texts[0] for texts in data.captions]
    assert names == ["dark"] * 4 + ["gray"] * 4 + ["light"] * 4
    # What it makes of an image of which nothing is seen: the class decides.
    indices = data.read(range(len(data))).indices
    hidden = torch.full_like(indices, pipe.model.generator.mask_id)

    def right(names: list[str]) -> float:
        ids, mask = pipe.text.tokenize(names)
        with torch.no_grad():
            logits = pipe.model.generator(hidden, pipe.text(ids, mask), mask).logits
        return (logits.argmax(-1) == indices.flatten(1)).float().mean().item()

    assert right(names) > right(names[4:] + names[:4]) + 0.4
    by_name, by_number = pipe("light", cfg_scale=1.0), pipe(" 2 ", cfg_scale=1.0)
    assert by_name.images[0].tobytes() == by_number.images[0].tobytes()
    with pytest.raises(UsageError, match=r"'lihgt' is none of this checkpoint's 3 .*; try 'light'"):
        pipe(["dark", "lihgt"])
    with pytest.raises(UsageError, match="or a number below 3"):
        pipe("3")


def test_a_number_is_a_name_where_names_are_numbers() -> None:
    assert sort_classes(["10", "b", "9", "a", "10"]) == ["9", "10", "a", "b"]
    numbers = ClassEncoder(["3", "7"], 4)
    assert (numbers.number("7"), numbers.number("3")) == (1, 0)
    with pytest.raises(UsageError, match="'0' is none of this checkpoint's 2 classes"):
        numbers.number("0")


def test_new_classes_get_new_rows_and_old_ones_keep_theirs(
    run: TrainConfig, classes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(replace(run, steps=2))
    start = Path(run.out) / "checkpoint"
    before = classes_of(start)
    (classes / "gray").rename(classes / "blue")
    images = DataConfig(kind=DataKind.folder, root=str(classes), size=64)
    data = open_data(images, load_image_tokenizer(run), labels=True)
    capsys.readouterr()
    _, text = start_weights(replace(run, data=images, init_from=str(start)), data)
    assert "1 classes are new to" in capsys.readouterr().err
    assert isinstance(text, ClassEncoder)
    assert text.names == ["dark", "gray", "light", "blue"]
    assert torch.equal(text.embedding.weight[:3], before.embedding.weight)


def test_images_without_a_class_are_refused(config: TrainConfig) -> None:
    with pytest.raises(UsageError, match=r"12 of 12 images have no class, for instance 00\.png"):
        train(replace(config, model=LAYOUT))


def test_imagenet_names_its_classes_apart(tmp_path: Path) -> None:
    synsets = "n01 tench, Tinca tinca\nn02 crane\nn03 crane\n"
    (tmp_path / "LOC_synset_mapping.txt").write_text(synsets)
    for synset in ("n01", "n02", "n03"):
        (tmp_path / synset).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / synset / "a.png")
    found = list_images(str(tmp_path), DataKind.imagenet).images
    assert [image.row["label"] for image in found] == ["tench", "crane (n02)", "crane (n03)"]


def test_a_layout_without_classes_is_written_as_before() -> None:
    """So that no hash of a checkpoint changes."""
    assert "classes" not in to_written(PRESETS["small"])["text"]
    assert to_written(LAYOUT)["text"]["classes"] == {"names": []}
    with pytest.raises(UsageError, match="2 are given"):
        TextConfig(classes=ClassesConfig())
