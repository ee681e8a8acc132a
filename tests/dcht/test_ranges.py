"""Limits at the fields of settings: what is admitted, and how the rest is named."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import pytest

from dcht.errors import UsageError
from dcht.ranges import SHA256, Length, Range, check_ranges


@dataclass(kw_only=True)
class Settings:
    """One field of each kind."""

    count: Annotated[int, Range(1, 64)] = 1
    share: Annotated[float, Range(0, 1, below=True)] = 0.5
    rate: Annotated[float | None, Range(0, above=True)] = None
    widths: Annotated[list[int], Length(1, 3), Range(8, 16)] = None  # type: ignore[assignment]
    pair: Annotated[tuple, Length(2, 2)] = (1, 2)
    sha256: Annotated[str, SHA256] = "0" * 64
    free: int = -1

    def __post_init__(self) -> None:
        self.widths = self.widths if self.widths is not None else [8]
        check_ranges(self)


@pytest.mark.parametrize(
    "good",
    [
        {"count": 64},
        {"count": np.int64(3)},
        {"share": 0},
        {"share": np.float32(0.25)},
        {"rate": 1e-300},
        {"rate": None},
        {"widths": (8, 16)},
        {"free": -(10**400)},
    ],
)
def test_values_inside_are_kept_as_they_are(good) -> None:
    settings = Settings(**good)
    for name, value in good.items():
        assert getattr(settings, name) == value


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"count": 0}, "count is 0; expected 1 to 64"),
        ({"count": 10**400}, r"count is 1000000\d+\.\.\.0+; expected 1 to 64"),
        ({"count": True}, "count is True, which is not a whole number; expected 1 to 64"),
        ({"count": 1.0}, "count is 1.0, which is not a whole number; expected 1 to 64"),
        ({"count": None}, "count is None, which is not a whole number; expected 1 to 64"),
        ({"share": 1}, "share is 1; expected at least 0 and below 1"),
        ({"share": float("nan")}, "share is nan; expected at least 0 and below 1"),
        ({"rate": 0.0}, "rate is 0.0; expected above 0"),
        ({"rate": float("inf")}, "rate is inf; expected above 0"),
        ({"rate": "1"}, "rate is '1', which is not a number or nothing; expected above 0"),
        ({"widths": []}, r"widths is \[\]; expected 1 to 3 long and 8 to 16"),
        ({"widths": [8, 17]}, r"widths is \[8, 17\]; expected 1 to 3 long and 8 to 16"),
        ({"widths": [8, "8"]}, r"widths is \[8, '8'\], which is not a list of a whole number"),
        ({"widths": 8}, "widths is 8, which is not a list of a whole number"),
        ({"pair": (1,)}, r"pair is \(1,\); expected 2 long$"),
        ({"pair": (1, 2, 3)}, r"pair is \(1, 2, 3\); expected 2 long$"),
        ({"sha256": "0" * 63 + "G"}, "sha256 is '000.*; expected a SHA-256: 64 hexadecimal digits"),
        ({"sha256": "0" * 64 + "\n"}, "sha256 is '000.*; expected a SHA-256"),
    ],
)
def test_values_outside_are_named(bad, message) -> None:
    with pytest.raises(UsageError, match=message):
        replace(Settings(), **bad)
