"""The Hub: where a named checkpoint is found, and where one's own is put.

Nothing is fetched but the files that a checkpoint is made of, and nothing is asked for that is a
folder here. Offline (`local_files_only`, `HF_HUB_OFFLINE=1`, `--offline`) what an earlier download
left is all there is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypedDict

from dcht.config import TokenizerConfig
from dcht.errors import CheckpointError, UsageError
from dcht.files import open_regular, write_atomic

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
"""The Hub allows no other characters."""
FILES = (
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "conversion.json",
    "README.md",
    "tokenizer/README.md",
    "tokenizer/config.json",
    "tokenizer/model.safetensors",
    "light/config.json",
    "light/model.safetensors",
    "tokenizer/light/config.json",
    "tokenizer/light/model.safetensors",
)
"""What a checkpoint is made of, and where it was converted from; a generator's may have its image
tokenizer in `tokenizer/`, and a tokenizer a light decoder in `light/`."""
BUNDLED = "bundled"
"""The name of what ships, wherever a checkpoint is named."""
CARD = "README.md"
MAX_CARD = 1 << 20
"""Bytes of a model card that are read."""
LICENSE_NOTE = """\
The code is Apache-2.0. No license was chosen for these weights yet: what the terms of the training
data and of the checkpoint that training started from allow decides which one may be. Put it here
and in the first lines of this file before you publish.
"""


class Access(TypedDict, total=False):
    """How the Hub is asked, as in transformers and diffusers."""

    token: str | bool | None
    """None: the one that `hf auth login` left; False: none."""
    cache_dir: str | Path | None
    local_files_only: bool


def locate(
    name: str | Path | None,
    *,
    bundled: Path | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
    files: Sequence[str] = FILES,
) -> Path:
    """The folder of a checkpoint: `name` itself if it is one, else a download from the Hub.

    Args:
        name: a folder, or a Hub id (owner/name); where one is bundled also `bundled` or None.
        bundled: the folder of what ships with the package.
        revision: branch, tag or commit on the Hub; None: its main branch.
        token: see `Access`.
        cache_dir: where downloads are kept; None: where all of Hugging Face's libraries do.
        local_files_only: take what is there, and ask nobody.
        files: names and patterns of what is downloaded.

    Raises:
        CheckpointError: it is neither, or could not be fetched.
    """
    if bundled is not None and name in (None, BUNDLED):
        return bundled
    folder = Path(str(name))
    if str(name) and folder.is_dir():
        return folder
    if not HUB_ID.fullmatch(str(name)):
        also = "" if bundled is None else f"; `{BUNDLED}` is what ships"
        raise CheckpointError(f"{str(name)!r} is neither a folder nor a Hub id (owner/name){also}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            str(name),
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            allow_patterns=list(files),
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        which = name if revision is None else f"{name} at {revision}"
        raise CheckpointError(
            f"{which} is not a local folder and could not be fetched from the Hub: {_line(error)}"
        ) from None
    return Path(found)


def read_card_psnr(folder: str | Path) -> float | None:
    """The first PSNR that a checkpoint's model card names, in dB; None if there is none."""
    try:
        with open_regular(Path(folder) / CARD) as file:
            card = file.read(MAX_CARD).decode(errors="replace")
    except OSError:
        return None
    found = re.search(r"PSNR (\d{1,3}(?:\.\d{1,4})?) dB", card)
    return float(found[1]) if found else None


def push(
    save: Callable[[Path], object],
    name: str,
    *,
    card: str,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    message: str = "Upload weights",
) -> str:
    """Upload a checkpoint, and a model card where the repository has none; returns its address.

    Args:
        save: writes the checkpoint into a folder.
        name: the repository, made if it is not there: owner/name, or a name alone for one's own.
        card: the model card, Markdown with the Hub's metadata on top.
        private: whether a new repository is; None: as the owner's account has it.
        token: see `Access`.
        revision: the branch to write to; None: the main one.
        message: of the commit.

    Raises:
        UsageError: the name is none, or the Hub did not take it: one line that says why.
    """
    if not HUB_ID.fullmatch(name if "/" in name else f"me/{name}"):
        raise UsageError(f"{name!r} is no name on the Hub; for example owner/name")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    api = HfApi(token=token)
    try:
        with TemporaryDirectory() as folder:
            save(Path(folder))
            repo = api.create_repo(name, private=private, exist_ok=True).repo_id
            if not api.file_exists(repo, CARD, revision=revision):
                write_atomic(Path(folder) / CARD, card.encode())
            commit = api.upload_folder(
                repo_id=repo, folder_path=folder, revision=revision, commit_message=message
            )
    except (HfHubHTTPError, LocalTokenNotFoundError, OSError, ValueError) as error:
        raise UsageError(f"{name} could not be pushed to the Hub: {_line(error)}") from None
    return str(commit.commit_url)


def model_card(
    title: str,
    *,
    library: str,
    tag: str,
    about: str,
    use: str,
    facts: Mapping[str, str],
) -> str:
    """A model card: Markdown, with the Hub's metadata on top.

    Args:
        title: its heading.
        library: the package that loads the weights.
        tag: the Hub's name of what they do.
        about: what they are.
        use: a command or a line of Python that uses them.
        facts: rows of a table.
    """
    table = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    return (
        f"---\nlibrary_name: {library}\npipeline_tag: {tag}\nlicense: unknown\n---\n\n"
        f"# {title}\n\n{about}\n\n```\n{use}\n```\n\n| | |\n|---|---|\n{table}\n\n"
        f"## License\n\n{LICENSE_NOTE}"
    )


def tokenizer_card(
    name: str, config: TokenizerConfig, parameters: int, facts: Mapping[str, str] | None = None
) -> str:
    """A tokenizer's model card for a repository or folder `name`; `facts` follow what it is."""
    side, codes, std = config.downsampling, config.codebook_size, config.residual_std
    known = {
        "parameters": f"{parameters / 1e6:.2f} M",
        "a token": f"{side} x {side} pixels, {config.latent_channels} channels",
        "codes": "none: a continuous autoencoder" if codes is None else f"{codes:,}",
        "residual": "not measured" if std is None else f"standard deviation {std:.5f}",
    }
    return model_card(
        name.split("/")[-1],
        library="dcht",
        tag="image-feature-extraction",
        about="An image tokenizer of DC-AR (ICCV 2025): images to discrete tokens plus residuals, "
        "and back.",
        use=f"dcht encode images/ --ckpt {name} --out latents/",
        facts=known | dict(facts or {}),
    )


def _line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
