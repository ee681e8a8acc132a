"""Extractors by name, EfficientNet-Lite0 on photographs, and the cache."""

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from einops import rearrange
from PIL import Image
from skimage import data
from torch import Tensor, nn

from dcar_eval.metrics import features
from dcar_eval.metrics.efficientnet import load_efficientnet
from dcar_eval.metrics.features import Extractor, cached_features, load_extractor
from dcar_eval.metrics.pixels import eight_bits
from dcar_eval.metrics.protocol import Crop
from dcar_eval.runs.journal import Journal
from dcht.data.sources import list_inputs
from dcht.errors import UsageError
from dcht.images import open_image, resize_crop, to_tensor

CPU = torch.device("cpu")


class Means(nn.Module):
    """Features that anyone can compute: the mean of each channel."""

    def forward(self, images: Tensor) -> Tensor:
        return images.float().mean(dim=(2, 3))


@pytest.fixture
def extractor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Extractor:
    """Somebody's own, by name; the cache is in a folder of the test."""
    monkeypatch.setenv("DCAR_EVAL_CACHE", str(tmp_path / "cache"))
    own = ModuleType("somebodys")
    own.means = Means  # type: ignore[attr-defined]
    own.number = lambda: 3  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "somebodys", own)
    return load_extractor("somebodys:means", device=CPU)


def test_efficientnet_knows_photographs() -> None:
    """Classes of ImageNet: 281-285 are cats, 967 is espresso, 657 and 744 are missiles."""
    network = load_efficientnet()
    for name, classes in (("chelsea", range(281, 286)), ("coffee", [967]), ("rocket", [657, 744])):
        photo = Image.fromarray(getattr(data, name)())
        pixels = np.asarray(resize_crop(photo, (224, 224)))
        images = rearrange(torch.tensor(pixels), "h w c -> 1 c h w")
        with torch.inference_mode():
            top = network.classify(images).topk(3).indices[0].tolist()
            assert network(images).shape == (1, 1280)
        assert set(top) & set(classes), (name, top)


def test_an_extractor_has_a_name(extractor: Extractor) -> None:
    assert (extractor.name, extractor.dim) == ("somebodys:means", 3)
    with pytest.raises(UsageError, match="extractor 'resnet' is not known; use inception, "):
        load_extractor("resnet", device=CPU)
    with pytest.raises(UsageError, match="'somebodys:medians' cannot be had"):
        load_extractor("somebodys:medians", device=CPU)
    with pytest.raises(UsageError, match="somebodys:number returned a int; expected a torch mod"):
        load_extractor("somebodys:number", device=CPU)
    assert load_extractor("efficientnet-lite0", device=CPU).dim == 1280


def test_features_are_kept_by_content(
    extractor: Extractor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = list_inputs(images)
    found = cached_features(entries, extractor, size=(64, 32), crop=Crop.cover, batch_size=4)
    crops = [resize_crop(open_image(images / entry.name), (64, 32)) for entry in entries]
    pixels = eight_bits(torch.stack([to_tensor(crop) for crop in crops]))
    assert np.allclose(found, pixels.float().mean(dim=(2, 3)), atol=1e-4)
    with monkeypatch.context() as patch:
        patch.setattr(Extractor, "__call__", lambda *_: pytest.fail("was there already"))
        again = cached_features(entries, extractor, size=(64, 32), crop=Crop.cover, batch_size=4)
    assert np.array_equal(again, found)
    Image.new("RGB", (70, 70), "red").save(images / "a.png")
    entries = list_inputs(images)
    other = cached_features(entries, extractor, size=(64, 32), crop=Crop.cover, batch_size=4)
    assert other[0].tolist() == [255, 0, 0]
    assert np.array_equal(other[1:], found[1:])
    cached_features(entries, extractor, size=(32, 32), crop=Crop.adm)
    assert len(list((tmp_path / "cache" / "features").iterdir())) == 3


def test_a_killed_run_goes_on_in_the_cache(
    extractor: Extractor, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "SAVED_EVERY", 2)
    entries = list_inputs(images)
    calls = 0

    def stop(journal: Journal) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        save(journal)

    save = Journal.save
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "save", stop)
        with pytest.raises(KeyboardInterrupt):
            cached_features(entries, extractor, size=(32, 32), crop=Crop.cover, batch_size=2)
    (folder,) = (tmp_path / "cache" / "features").iterdir()
    assert json.loads((folder / ".state.json").read_text())["done"] == 2
    found = cached_features(entries, extractor, size=(32, 32), crop=Crop.cover, batch_size=2)
    monkeypatch.setenv("DCAR_EVAL_CACHE", str(tmp_path / "other"))
    whole = cached_features(entries, extractor, size=(32, 32), crop=Crop.cover, batch_size=2)
    assert np.array_equal(found, whole)


def test_a_damaged_cache_begins_anew(extractor: Extractor, images: Path, tmp_path: Path) -> None:
    """It may be deleted, so it may be damaged."""
    entries = list_inputs(images)
    found = cached_features(entries, extractor, size=(32, 32), crop=Crop.cover)
    (folder,) = (tmp_path / "cache" / "features").iterdir()
    values = folder / ".features-images.f32"
    for file, damage in ((values, b"x" * 11), (values, b""), (folder / ".state.json", b"{")):
        whole = file.read_bytes()
        file.write_bytes(damage)
        again = cached_features(entries, extractor, size=(32, 32), crop=Crop.cover)
        assert np.array_equal(again, found)
        assert file.read_bytes() == whole


def test_somebodys_own_network_is_known_by_its_code_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no weights, so they cannot tell what it computes."""
    monkeypatch.syspath_prepend(tmp_path)
    program = (
        "from torch import nn\nclass Own(nn.Module):\n"
        "    def forward(self, images): return images.float().{}(dim=(2, 3))\n"
    )
    (tmp_path / "their_network.py").write_text(program.format("mean"))
    first = load_extractor("their_network:Own", device=CPU).sha256
    assert load_extractor("their_network:Own", device=CPU).sha256 == first
    (tmp_path / "their_network.py").write_text(program.format("amax"))
    monkeypatch.delitem(sys.modules, "their_network")
    assert load_extractor("their_network:Own", device=CPU).sha256 != first


def test_what_cannot_be_compared_is_refused(extractor: Extractor, images: Path) -> None:
    entries = list_inputs(images)
    with pytest.raises(UsageError, match=r"b\.jpg: is 96 x 70, the first one 80 x 70; give --size"):
        cached_features(entries, extractor, size=None, crop=Crop.cover)
    assert cached_features(entries[:1], extractor, size=None, crop=Crop.cover).shape == (1, 3)
    (images / "b.jpg").write_text("no image")
    with pytest.raises(UsageError, match=r"b\.jpg: not a PNG"):
        cached_features(list_inputs(images), extractor, size=(32, 32), crop=Crop.cover)
