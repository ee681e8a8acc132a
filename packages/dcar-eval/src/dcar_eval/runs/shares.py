"""An evaluation divided among processes: every n-th batch each, put together by the last to end.

Batches stay the same whoever works them off, so rows and features are those of a single run. A
share has a folder of its own below `--out`; several machines without a common disk copy those
folders into one, and repeat the command there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from dcar_eval.runs.journal import ERRORS, ROWS, STATE, Features, Journal, forget, read_state
from dcar_eval.runs.results import RESULTS, SETTINGS, differing, finished, prepare
from dcht.errors import UsageError
from dcht.files import jsonl, locked, read_json, remove_partials, write_atomic

T = TypeVar("T")


class Share(NamedTuple):
    """Batch `number`, `number` + `of`, ...: what one process does."""

    number: int = 0
    of: int = 1

    def folder(self, out: Path) -> Path:
        """Where its journal is: `out` itself if it is all there is."""
        return out if self.of == 1 else out / f"part-{self.number}-of-{self.of}"

    def take(self, batches: Sequence[T]) -> list[T]:
        """Its batches."""
        return list(batches[self.number :: self.of])

    def all(self) -> list[Share]:
        """It and the others."""
        return [Share(number, self.of) for number in range(self.of)]


class Gathered(NamedTuple):
    """What all shares found, in the order of the images."""

    rows: list[dict[str, Any]]
    errors: list[dict[str, Any]]
    features: dict[str, Features]


@contextmanager
def begin(
    out: Path,
    share: Share,
    settings: dict[str, Any],
    *,
    files: Sequence[str],
    force: bool,
    contents: Mapping[str, str] | None = None,
) -> Iterator[dict[str, Any] | None]:
    """Hold a share's folder and make it ready, as `prepare` does.

    Yields:
        The results, where they are there already.

    Raises:
        UsageError: another process holds the folder, `out` was begun with other settings or holds
            something else; or `force` with one share of several, which would leave the others' as
            they are.
    """
    if force and share.of > 1:
        raise UsageError(
            f"--force with share {share.number}/{share.of} would leave the other shares as they "
            f"are; remove {out} first"
        )
    if share.of > 1 and (out / SETTINGS).exists():
        raise UsageError(f"{out} was begun by a run without shares; use another --out")
    with locked(share.folder(out)):
        prepare(share.folder(out), settings, files=files, force=force, contents=contents)
        done = _finished(out, settings)
        if done is not None and share.of == 1:
            forget(out)  # a run that was killed behind its results had no time for it
        yield done


def _finished(out: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    done = finished(out)
    if done is not None and done.get("settings") != settings:
        raise UsageError(f"{out / RESULTS} is of other settings; use another --out")
    return done


@contextmanager
def gathering(out: Path, share: Share, settings: dict[str, Any]) -> Iterator[dict[str, Any] | None]:
    """Hold the folder of all shares, once they are done, and clear it of what a killed one left.

    Of two shares that end together the second waits.

    Yields:
        The results, where the other share wrote them meanwhile.
    """
    with locked(out, wait=True) if share.of > 1 else nullcontext():
        remove_partials(out, below=True)
        yield _finished(out, settings)


def all_done(out: Path, share: Share, counts: Sequence[int]) -> bool:
    """Whether every share has come to its end; `counts` are the images of each."""
    folders = [other.folder(out) for other in share.all()]
    return all(
        (folder / STATE).exists() and read_state(folder).done >= count
        for folder, count in zip(folders, counts, strict=True)
    )


def gather(out: Path, share: Share, dims: dict[str, int], names: Sequence[str]) -> Gathered:
    """Put the shares together; every image must be there once.

    Args:
        out: the folder of all.
        share: one of them.
        dims: dimensions of the features of each kind.
        names: of all images.

    Raises:
        UsageError: the shares have different settings, or an image is missing or there twice.
    """
    folders = [other.folder(out) for other in share.all()]
    settings = [read_json(folder / SETTINGS) for folder in folders]
    for folder, others in zip(folders, settings, strict=True):
        if keys := differing(settings[0], others):
            old, new = settings[0].get(keys[0]), others.get(keys[0])
            raise UsageError(
                f"{folder} has {keys[0]} {new}, {folders[0].name} {old}; shares of one evaluation "
                "have the same settings"
            )
    journals = [Journal(folder, dims) for folder in folders]
    rows, errors = (
        [(row, journal.out) for journal in journals for row in journal.read(name)]
        for name in (ROWS, ERRORS)
    )
    _check_once([*rows, *errors], names, out)
    order = np.argsort([row["index"] for row, _ in rows], kind="stable").astype(int)
    features = {
        name: np.concatenate([journal.features(name) for journal in journals])[order]
        for name in dims
    }
    in_order = sorted((row for row, _ in errors), key=lambda row: row["index"])
    return Gathered([rows[place][0] for place in order], in_order, features)


def _check_once(found: list[tuple[dict[str, Any], Path]], names: Sequence[str], out: Path) -> None:
    """Refuse an image that is there twice, or not at all."""
    places: dict[int, Path] = {}
    for row, folder in found:
        index = row["index"]
        if index in places:
            raise UsageError(
                f"image {index} ({row.get('file')}) is there twice: in {places[index]} and {folder}"
            )
        places[index] = folder
    for index, name in enumerate(names):
        if index not in places:
            raise UsageError(f"image {index} ({name}) is missing from {out}")


def write_gathered(out: Path, gathered: Gathered) -> None:
    """Write `images.jsonl` and `errors.jsonl` of all shares, as a single run has them."""
    for name, rows in ((ROWS, gathered.rows), (ERRORS, gathered.errors)):
        if rows:
            write_atomic(out / name, jsonl(rows))
