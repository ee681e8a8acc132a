"""The Hub, without a network: what is asked of it, what a download left, and one clear line."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

from dcht import CheckpointError, Tokenizer, UsageError
from dcht.checkpoint import checkpoint_sha256
from dcht.hub import FILES, locate


def cached(folder: Path, cache: Path, name: str, revision: str = "main") -> None:
    """Put a folder where a download of `name` at `revision` would have put it."""
    commit = f"{len(list(cache.rglob('config.json'))):040x}"
    home = cache / f"models--{name.replace('/', '--')}"
    (home / "refs").mkdir(parents=True, exist_ok=True)
    (home / "refs" / revision).write_text(commit)
    shutil.copytree(folder, home / "snapshots" / commit)


FORBIDDEN: Any = httpx.Response(403, request=httpx.Request("POST", "https://hub.example"))


class FakeHub:
    """`huggingface_hub.HfApi` as far as it is used: keeps what is uploaded, by repository."""

    def __init__(self) -> None:
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.error: Exception | None = None

    def __call__(self, token: Any = None) -> FakeHub:
        self.asked.append(("HfApi", {"token": token}))
        return self

    def create_repo(self, name: str, **asked: Any) -> SimpleNamespace:
        self.asked.append(("create_repo", asked))
        if self.error is not None:
            raise self.error
        repo_id = name if "/" in name else f"somebody/{name}"
        self.repositories.setdefault(repo_id, {})
        return SimpleNamespace(repo_id=repo_id)

    def file_exists(self, repo_id: str, name: str, revision: str | None) -> bool:
        return name in self.repositories[repo_id]

    def upload_folder(self, repo_id: str, folder_path: str, **asked: Any) -> SimpleNamespace:
        self.asked.append(("upload_folder", asked))
        files = {
            str(path.relative_to(folder_path)): path.read_bytes()
            for path in Path(folder_path).rglob("*")
            if path.is_file()
        }
        self.repositories[repo_id] |= files
        return SimpleNamespace(commit_url=f"hub/{repo_id}/commit/1")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", fake)
    return fake


def test_each_revision_is_found_in_the_cache(
    saved_tokenizer: Path, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    cached(saved_tokenizer, cache, "me/tok")
    first = checkpoint_sha256(saved_tokenizer)
    with torch.no_grad():
        tokenizer.get_parameter("decoder.input.bias").add_(1)
    second = tokenizer.save_pretrained(saved_tokenizer)
    cached(saved_tokenizer, cache, "me/tok", "v2")
    for revision, expected in ((None, first), ("main", first), ("v2", second)):
        found = Tokenizer.from_pretrained(
            "me/tok", revision=revision, cache_dir=cache, local_files_only=True
        )
        assert found.sha256 == expected
    cast = Tokenizer.from_pretrained(
        "me/tok", cache_dir=cache, local_files_only=True, dtype=torch.bfloat16, device="cpu"
    )
    assert cast.decoder.input.weight.dtype == torch.bfloat16


def test_what_the_caller_says_reaches_the_hub(
    saved_tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}

    def download(name: str, **settings: Any) -> str:
        asked.update(settings, name=name)
        return str(saved_tokenizer)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    Tokenizer.from_pretrained("me/tok", revision="abc", token="secret", cache_dir="here")
    assert asked == {
        "name": "me/tok", "revision": "abc", "token": "secret", "cache_dir": "here",
        "local_files_only": False, "allow_patterns": list(FILES),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("revision", "which"), [(None, "me/none is not"), ("v9", "me/none at v9 is not")]
)
def test_offline_is_one_line(tmp_path: Path, revision: str | None, which: str) -> None:
    with pytest.raises(CheckpointError, match=f"{which} a local folder and could not be") as caught:
        locate("me/none", revision=revision, cache_dir=tmp_path, local_files_only=True)
    assert "\n" not in str(caught.value)


def test_without_a_network_is_one_line(tmp_path: Path) -> None:
    """Nobody said offline: the connection fails."""
    with pytest.raises(CheckpointError, match="could not be fetched from the Hub: ") as caught:
        locate("me/none", cache_dir=tmp_path)
    assert "\n" not in str(caught.value)


def test_pushed_and_loaded_it_is_the_same(
    hub: FakeHub, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    address = tokenizer.push_to_hub("me/tok", token="secret", private=True, revision="dev")
    assert address == "hub/me/tok/commit/1"
    assert hub.asked == [
        ("HfApi", {"token": "secret"}),
        ("create_repo", {"private": True, "exist_ok": True}),
        ("upload_folder", {"revision": "dev", "commit_message": "Upload weights"}),
    ]
    files = hub.repositories["me/tok"]
    assert sorted(files) == ["README.md", "config.json", "model.safetensors"]
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    again = Tokenizer.from_pretrained(tmp_path)
    assert again.sha256 == tokenizer.sha256
    card = files["README.md"].decode()
    parameters = sum(p.numel() for p in tokenizer.parameters())
    for fact in (
        "library_name: dcht", "license: unknown", "# tok\n", f"{parameters / 1e6:.2f} M",
        "| codes | 64 |", "32 x 32 pixels, 8 channels", "--ckpt me/tok", "No license was chosen",
    ):  # fmt: skip
        assert fact in card, (fact, card)


def test_somebody_elses_card_stays_and_a_name_alone_is_ones_own(
    hub: FakeHub, tokenizer: Tokenizer
) -> None:
    hub.repositories["somebody/tok"] = {"README.md": b"mine"}
    tokenizer.push_to_hub("tok", dtype=torch.float16)
    files = hub.repositories["somebody/tok"]
    assert files["README.md"] == b"mine"
    assert len(files["model.safetensors"]) < 4 * sum(p.numel() for p in tokenizer.parameters())


@pytest.mark.parametrize(
    "error",
    [
        HfHubHTTPError("403 Forbidden: no\nrequest 1", response=FORBIDDEN),
        LocalTokenNotFoundError("Token is required, but no token found."),
        ConnectionError("no route to host"),
    ],
)
def test_what_the_hub_does_not_take_is_one_line(
    hub: FakeHub, tokenizer: Tokenizer, error: Exception
) -> None:
    hub.error = error
    with pytest.raises(UsageError, match="me/tok could not be pushed to the Hub: ") as caught:
        tokenizer.push_to_hub("me/tok")
    assert "\n" not in str(caught.value)
    assert str(error).splitlines()[0] in str(caught.value)


@pytest.mark.parametrize("name", ["", "a b", "a/b/c", "../x", "me/"])
def test_a_name_that_is_none_is_refused_before_anything_is_written(
    hub: FakeHub, tokenizer: Tokenizer, name: str
) -> None:
    with pytest.raises(UsageError, match="is no name on the Hub; for example owner/name"):
        tokenizer.push_to_hub(name)
    assert not hub.asked


@pytest.mark.parametrize("name", [None, "bundled"])
def test_what_ships_has_a_name(name: str | None, tmp_path: Path) -> None:
    assert locate(name, bundled=tmp_path) == tmp_path


def test_the_name_of_what_ships_means_nothing_where_nothing_ships() -> None:
    with pytest.raises(CheckpointError, match="'bundled' is neither a folder nor a Hub id"):
        locate("bundled")
