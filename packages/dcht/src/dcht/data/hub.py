"""Data sets on the Hub: `hf://user/name`, `hf://user/name@revision/data/train-*.parquet`.

Parquet is read where it is, by ranges of bytes: nothing is stored, and the work that has been done
is not fetched again. A repository without Parquet is downloaded into the Hub's cache first.
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from collections.abc import Iterator

from dcht.data.cells import REMOTE, require_pyarrow
from dcht.data.columnar import PARQUET, list_parquet
from dcht.data.entries import Entry
from dcht.data.folders import Found, list_folder
from dcht.data.tables import METADATA
from dcht.errors import UsageError

SOURCE = re.compile(r"hf:/{1,2}(?:datasets/)?([^/@]+/[^/@]+)(?:@([^/]+))?(?:/(.+))?")
"""`pathlib` makes one slash of two."""


def is_repository(source: str) -> bool:
    """Whether a source is on the Hub, and no path."""
    return source.startswith("hf:/")


def list_repository(source: str, found: Found) -> Iterator[Entry]:
    """The images of a data set on the Hub; what its path names, a folder or a pattern, if any.

    Args:
        source: `hf://user/name[@revision][/path]`.
        found: gets the names of tables, and of what was not read.

    Raises:
        UsageError: there is none, or the Hub cannot be asked; or an extra is missing.
    """
    matched = SOURCE.fullmatch(source.rstrip("/"))
    if matched is None:
        raise UsageError(f"{source} is no data set; expected hf://user/name[@revision][/path]")
    name, revision, path = matched[1], matched[2], matched[3]
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        yield from _list_snapshot(source, name, revision, path, found)
        return
    try:
        info = HfApi().dataset_info(name, revision=revision)
    except Exception as error:  # of the Hub, or of the way to it
        raise UsageError(f"{source} cannot be listed: {_line(error)}") from None
    files = [str(file.rfilename) for file in info.siblings or []]
    files = [file for file in files if _is_below(file, path)]
    # A `metadata.parquet` is the table of an image folder (if not, reading that folder shows it).
    named = [file for file in files if posixpath.basename(file) not in METADATA]
    tables = sorted(file for file in named if file.lower().endswith(PARQUET))
    if not tables:
        yield from _list_snapshot(source, name, info.sha, path, found)
        return
    require_pyarrow(source)
    commit = str(info.sha)
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise UsageError(f"{source} cannot be listed: its revision is {commit!r}, no commit")
    version = int(commit[:12], 16)
    for file in tables:
        place = f"{REMOTE}datasets/{name}@{commit}/{file}"
        yield from list_parquet(place, f"{name}/{file}", changed=(version, 0))


def _is_below(file: str, path: str | None) -> bool:
    return path is None or fnmatch.fnmatch(file, path) or file.startswith(f"{path}/")


def _list_snapshot(
    source: str, name: str, revision: str | None, path: str | None, found: Found
) -> Iterator[Entry]:
    """The images of a repository in the Hub's cache, which is filled first."""
    from huggingface_hub import snapshot_download

    patterns = None if path is None else [path, f"{path}/*"]
    try:
        folder = snapshot_download(
            name, repo_type="dataset", revision=revision, allow_patterns=patterns
        )
    except Exception as error:  # of the Hub, of the way to it, or of the disk
        raise UsageError(f"{source} cannot be downloaded: {_line(error)}") from None
    below = f"{name}/"
    for entry in list_folder(folder, name, found, follow_links=False):
        inside = posixpath.normpath(entry.name.removeprefix(below))
        if path is None or any(fnmatch.fnmatch(inside, p) for p in (path, f"{path}/*")):
            yield entry


def _line(error: Exception) -> str:
    """What an exception says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
