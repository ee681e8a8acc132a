"""One evaluation from its folder to its results: begun, worked off, gathered, written, cleaned up.

What the evaluators of tokenizers, of GenEval and of MJHQ-30K have in common. They say what the
result depends on, how a batch is measured, and what the rows and features amount to.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from dcar_eval.runs.journal import Journal, forget
from dcar_eval.runs.results import write_results
from dcar_eval.runs.shares import (
    Gathered,
    Share,
    all_done,
    begin,
    gather,
    gathering,
    write_gathered,
)

Batch = TypeVar("Batch", bound=Sequence[Any])


@dataclass(kw_only=True)
class Run(Generic[Batch]):
    """An evaluation in `out`, of which this process does a share."""

    out: Path
    settings: dict[str, Any]
    """What the results depend on; another run in `out` is refused."""
    written: Sequence[str]
    """Files of `out` that belong to it: `force` removes them."""
    names: Sequence[str]
    """Of all images, in order."""
    batches: Sequence[Batch]
    """All images, by what is measured together; shares take turns at them."""
    share: Share = field(default_factory=Share)
    dims: Mapping[str, int] = field(default_factory=dict)
    """Dimensions of the features of each kind that are kept."""
    contents: Mapping[str, str] | None = None
    """SHA-256 of what is measured, by name, so that what changed can be named."""
    force: bool = False
    started: float = field(default_factory=time.perf_counter)
    """When it began, on `time.perf_counter`'s clock."""

    def finish(
        self,
        measure: Callable[[Journal, list[Batch]], None],
        summarize: Callable[[Gathered], dict[str, Any]],
    ) -> dict[str, Any] | None:
        """Do this share; if it was the last, put all together and write the results.

        Args:
            measure: work off what the journal does not have yet of these batches.
            summarize: the results of everything that was found.

        Returns:
            The content of `results.json`, at once where it is there already; None while other
            shares have not come to their end.

        Raises:
            UsageError: `out` holds something else, or another process writes it.
        """
        out, share = self.out, self.share
        with begin(
            out,
            share,
            self.settings,
            files=self.written,
            force=self.force,
            contents=self.contents,
        ) as done:
            if done is not None:
                return done
            self.started = time.perf_counter()
            journal = Journal(share.folder(out), dict(self.dims))
            measure(journal, share.take(self.batches))
            counts = [sum(map(len, other.take(self.batches))) for other in share.all()]
            if not all_done(out, share, counts):
                return None
            with gathering(out, share, self.settings) as done:
                if done is not None:
                    return done
                gathered = gather(out, share, dict(self.dims), self.names)
                results = summarize(gathered)
                if share.of > 1:
                    write_gathered(out, gathered)
                write_results(out, results)
            if share.of == 1:
                forget(out)
            return results
