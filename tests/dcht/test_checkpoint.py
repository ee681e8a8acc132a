"""Damaged and hostile checkpoints: one line that says what is wrong, before anything is built."""

from __future__ import annotations

import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dcht import Tokenizer
from dcht.convert.published import write_converted
from dcht.convert.sources import read_source
from dcht.errors import CheckpointError
from dcht.hub import locate

Refuse = Callable[[str], None]


@pytest.fixture
def refuse(saved_tokenizer: Path) -> Refuse:
    """Check that the tokenizer is refused in one line of bounded length."""

    def check(match: str) -> None:
        with pytest.raises(CheckpointError, match=match) as caught:
            Tokenizer.from_pretrained(saved_tokenizer)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600

    return check


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", r"config\.json holds a JSON list; expected a JSON object"),
        (b"null", r"config\.json holds null; expected a JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"codebook_size": NaN}', "NaN is not a number"),
        (b'{"codebook_size": 1e999}', "1e999 is too large"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"", "not JSON"),
        (b'{"codebook_size": ' + b"9" * 5000 + b"}", "not JSON"),
    ],
)
def test_a_config_that_is_no_object_is_refused(
    saved_tokenizer: Path, refuse: Refuse, content: bytes, message: str
) -> None:
    (saved_tokenizer / "config.json").write_bytes(content)
    refuse(message)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("codebook_size", -1, "codebook_size is -1; expected 1 to 1,048,576"),
        ("codebook_size", 10**30, r"codebook_size is 10+\.*0+; expected 1 to 1,048,576"),
        ("codebook_size", 64.0, "codebook_size: 64.0 is not of type int"),
        ("codebook_size", True, "codebook_size: True is not of type int"),
        ("latent_channels", 0, "latent_channels is 0"),
        ("residual_std", -0.5, "residual_std is -0.5; expected above 0"),
        ("commitment_weight", -1, "commitment_weight is -1; expected at least 0"),
        ("encoder", [], r"encoder: \[\] is not of type dict"),
        ("encoder", None, "encoder: None is not of type dict"),
        ("encoder.widths", [10**9] * 6, "encoder: widths is .*; expected 2 to 8 long and 1 to"),
        ("encoder.widths", [8], "encoder: widths is .*; expected 2 to 8 long"),
        ("encoder.widths", 8, "encoder.widths: 8 is not of type list"),
        ("encoder.widths", ["8"] * 6, "encoder.widths: '8' is not of type int"),
        ("encoder.depths", [10**12] * 6, "encoder: depths is .*; expected .* 0 to 32"),
        ("encoder.depths", [-1] * 6, "encoder: depths is"),
        ("decoder.depths", [1] * 5, "decoder: every list needs 6 entries"),
        ("decoder.blocks", ["res\x1b[31m"] * 6, r"decoder.blocks: 'res\\x1b\[31m' is not one of"),
        ("decoder.widths", [8, 8, 16, 32, 32, 40], "attention width 40 is not a multiple of 32"),
        ("encoder.widths", [8, 6, 16, 32, 32, 32], "6 channels are not a multiple of 4"),
    ],
)
def test_sizes_are_bounded_before_anything_is_built(
    saved_tokenizer: Path, refuse: Refuse, path: str, value: Any, message: str
) -> None:
    file = saved_tokenizer / "config.json"
    config = json.loads(file.read_text())
    *parents, name = path.split(".")
    inner = config
    for parent in parents:
        inner = inner[parent]
    inner[name] = value
    file.write_text(json.dumps(config))
    refuse(message)


def test_a_missing_setting_is_named(saved_tokenizer: Path, refuse: Refuse) -> None:
    file = saved_tokenizer / "config.json"
    config = json.loads(file.read_text())
    del config["decoder"]["widths"]
    file.write_text(json.dumps(config))
    refuse("decoder: settings widths are missing")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device"])
def test_what_is_no_file_is_refused_and_not_waited_for(
    saved_tokenizer: Path, refuse: Refuse, name: str, kind: str
) -> None:
    path = saved_tokenizer / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    refuse(f"{name} cannot be read: (not a regular file|Is a directory)")


def test_damaged_weights_are_refused(saved_tokenizer: Path, refuse: Refuse) -> None:
    path = saved_tokenizer / "model.safetensors"
    whole = path.read_bytes()
    for content in (
        b"",
        whole[:8],
        struct.pack("<Q", 2**63) + whole[8:],
        struct.pack("<Q", 10**7) + b"[" * 10**7,
        whole[:-1],
        whole + b"0",
    ):
        path.write_bytes(content)
        refuse(r"model\.safetensors is damaged")


@pytest.mark.parametrize(
    "name", ["a b/c", "", "a/b c", "\x1b[31m/x", "a//b", "é/è", "-/x", "a/" * 9]
)
def test_a_name_the_hub_does_not_allow_is_one_line(name: str) -> None:
    with pytest.raises(CheckpointError, match="is neither a folder nor a Hub id") as caught:
        locate(name)
    assert str(caught.value).isprintable()


class Evil:
    """What runs a command where a pickle is trusted."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, ("touch ran",)


@pytest.mark.parametrize(
    "content",
    [
        pickle.dumps(Evil()),
        b"",
        b"junk",
        b"\x80\x02]" + b"\x8c\x00" * 10,
        b"PK\x03\x04" + bytes(200),
        b"\x80\x04\x8e" + struct.pack("<Q", 10**15),
        bytes(range(256)),
    ],
)
def test_junk_given_to_convert_is_no_advice_to_trust_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.chdir(tmp_path)
    junk = tmp_path / "model.pt"
    junk.write_bytes(content)
    with pytest.raises(CheckpointError, match="is no file of plain tensors; expected") as caught:
        read_source(junk)
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"network": []}, "not as published"),
        ({"network": {"encoder": 3, "decoder": None}}, "not as published"),
        ({"encoder_layers_per_block": 7}, "not as published: TypeError"),
        ([1, 2], "holds a JSON list"),
    ],
)
def test_settings_of_others_may_have_any_shape(tmp_path: Path, settings: Any, message: str) -> None:
    from dcht.config import PRESETS
    from dcht.convert.keys import Family, their_key

    tiny = PRESETS["tiny"]
    tensors = {
        their_key(key, tiny, Family.EFFICIENTVIT): value.clone()
        for key, value in Tokenizer(tiny).state_dict().items()
    }
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(CheckpointError, match=message):
        write_converted(str(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_keys_of_others_may_be_anything(tmp_path: Path) -> None:
    for key in (
        "encoder.stages.99999999999.op_list.0.main.conv1.conv.weight",
        f"encoder.stages.{'9' * 5000}.op_list.0.main.conv1.conv.weight",
        "encoder.stages.1.op_list.999.main.conv1.conv.weight",
        "encoder.project_out.main.op_list.0.conv.weight",
    ):
        save_file({key: torch.zeros(())}, tmp_path / "model.safetensors")
        with pytest.raises(CheckpointError):
            write_converted(str(tmp_path), tmp_path / "out")


def test_convert_makes_anew_what_was_made_of_other_weights(
    saved_tokenizer: Path, tmp_path: Path
) -> None:
    """Equal names and sizes are not equal content: the second source is refused, not kept."""
    from dcht.config import PRESETS
    from dcht.convert.keys import Family, their_key
    from dcht.errors import UsageError

    tiny, source, out = PRESETS["tiny"], tmp_path / "source.safetensors", tmp_path / "out"
    ours = load_file(saved_tokenizer / "model.safetensors")
    theirs = {their_key(k, tiny, Family.EFFICIENTVIT): value for k, value in ours.items()}
    save_file(theirs, source)
    first = write_converted(str(source), out)
    assert write_converted(str(source), out) == first
    theirs["quantize.embedding.weight"] = theirs["quantize.embedding.weight"] + 1
    save_file(theirs, source)
    with pytest.raises(UsageError, match="was begun with source_sha256 "):
        write_converted(str(source), out)
    assert write_converted(str(source), out, force=True)["sha256"] != first["sha256"]


def test_the_worst_configs_end_in_time_and_memory(saved_tokenizer: Path) -> None:
    """The largest sizes that are allowed, of weights that do not have them: exit 4 within 2 GB."""
    file = saved_tokenizer / "config.json"
    config = json.loads(file.read_text())
    for side in ("encoder", "decoder"):
        config[side] |= {
            "widths": [8192] * 8, "depths": [32] * 8, "blocks": ["evit5"] * 8,
            "norms": ["rms2d"] * 8, "acts": ["silu"] * 8,
        }  # fmt: skip
    config |= {"latent_channels": 8192, "codebook_size": 1 << 20}
    file.write_text(json.dumps(config))
    code = (
        "from pathlib import Path\nfrom dcht.tokenizer import Tokenizer\n"
        "from dcht.errors import CheckpointError\n"
        f"try: Tokenizer.from_pretrained({str(saved_tokenizer)!r})\n"
        "except CheckpointError as error: print(error)\n"
        # Not getrusage's: that begins with what the parent had when it forked.
        "status = Path('/proc/self/status').read_text()\n"
        "print(int(status.partition('VmHWM:')[2].split()[0]) // 1024)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    message, megabytes = done.stdout.splitlines()
    assert "another shape" in message or "missing" in message
    assert int(megabytes) < 2000
