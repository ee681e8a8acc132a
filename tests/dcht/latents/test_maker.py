"""Which tokenizers a store serves: all that would have made it."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from dcht import LatentsStore, Tokenizer
from dcht.errors import CheckpointError, UsageError
from dcht.latents.decode import decode_store
from dcht.latents.encode import encode_images
from dcht.latents.encode_job import EncodeSettings
from dcht.latents.maker import latents_sha256, require_maker
from dcht.latents.writer import LatentsWriter

SETTINGS = EncodeSettings(size=(64, 64), batch_size=2)


@pytest.fixture
def store(saved_tokenizer: Path, images: Path, tmp_path: Path) -> LatentsStore:
    encode_images(Tokenizer.from_pretrained(saved_tokenizer), images, tmp_path / "store", SETTINGS)
    return LatentsStore(tmp_path / "store")


def changed(saved: Path, out: Path, key: str) -> Tokenizer:
    """A saved tokenizer with one weight changed."""
    tokenizer = Tokenizer.from_pretrained(saved)
    with torch.no_grad():
        tokenizer.get_parameter(key).mul_(1.01)
    tokenizer.save_pretrained(out)
    return Tokenizer.from_pretrained(out)


def test_another_decoder_is_served(
    store: LatentsStore, saved_tokenizer: Path, images: Path, tmp_path: Path
) -> None:
    """It decodes the store, and encoding with it has nothing to do."""
    other = changed(saved_tokenizer, tmp_path / "other", "decoder.input.weight")
    assert other.sha256 != store.plan.tokenizer_sha256
    assert latents_sha256(other) == store.plan.latents_sha256
    decode_store(other, store, tmp_path / "decoded")
    settings = json.loads((tmp_path / "decoded" / ".settings.json").read_text())
    assert settings["tokenizer"] == other.sha256
    before = {path.name: path.read_bytes() for path in store.folder.iterdir()}
    assert encode_images(other, images, store.folder, SETTINGS).encoded == 0
    assert {path.name: path.read_bytes() for path in store.folder.iterdir()} == before


@pytest.mark.parametrize("key", ["encoder.output.weight", "quantizer.codebook"])
def test_another_encoder_or_codebook_is_not(
    store: LatentsStore, saved_tokenizer: Path, images: Path, tmp_path: Path, key: str
) -> None:
    other = changed(saved_tokenizer, tmp_path / "other", key)
    with pytest.raises(CheckpointError, match=r"was encoded by tokenizer .*; name that one"):
        decode_store(other, store, tmp_path / "decoded")
    with pytest.raises(UsageError, match="was begun with tokenizer_sha256"):
        encode_images(other, images, store.folder, SETTINGS)


def test_two_plans_that_do_not_say_are_not_the_same(store: LatentsStore, tmp_path: Path) -> None:
    """A writer's own plan may leave it out, and so may a store's: then the tokenizer decides."""
    plan = dataclasses.replace(store.plan, latents_sha256=None)
    LatentsWriter(tmp_path / "own", plan, num_shards=1)
    (tmp_path / "own" / "shard-00000.safetensors").write_bytes(b"")
    LatentsWriter(tmp_path / "own", plan, num_shards=1)
    other = dataclasses.replace(plan, tokenizer_sha256="d" * 64)
    with pytest.raises(UsageError, match="was begun with tokenizer_sha256"):
        LatentsWriter(tmp_path / "own", other, num_shards=1)


def test_a_store_of_an_older_release_is_its_own_tokenizers_alone(
    store: LatentsStore, saved_tokenizer: Path, images: Path, tmp_path: Path
) -> None:
    """It does not say what would have made it; its own tokenizer finds it finished."""
    for name in ("manifest.json", ".plan.json"):
        found = json.loads((store.folder / name).read_text())
        del found.get("plan", found)["latents_sha256"]
        (store.folder / name).write_text(json.dumps(found))
    own = Tokenizer.from_pretrained(saved_tokenizer)
    plan = LatentsStore(store.folder).plan
    require_maker(own, plan, store.folder, remedy="")
    other = changed(saved_tokenizer, tmp_path / "other", "decoder.input.weight")
    with pytest.raises(CheckpointError, match="was encoded by tokenizer"):
        require_maker(other, plan, store.folder, remedy="name that one")
    assert encode_images(own, images, store.folder, SETTINGS).encoded == 0
