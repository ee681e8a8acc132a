"""`make check-gpu` to its last line, on a CPU with tiny models."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from dcht.commands.common import exit_code

SPEED = Path(__file__).parents[1] / "benchmarks" / "speed"


@pytest.fixture
def check_gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(SPEED))
    import check_gpu  # pyright: ignore[reportMissingImports]

    return check_gpu


def checked(
    check_gpu: ModuleType, out: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the rows by check."""
    words = ["check_gpu.py", "--device", "cpu", "--tiny", "--minutes", "10", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    code = exit_code(check_gpu.main)
    found = json.loads((out / "check_gpu.json").read_text())
    table = (out / "check_gpu.md").read_text()
    for row in found["checks"]:
        assert f"| {row['check']} | {row['status']}" in table
    return code, {row["check"]: row for row in found["checks"]}


@pytest.mark.slow  # half a minute of one core
@pytest.mark.filterwarnings("ignore")  # torch's, of process groups of one
def test_every_check_runs_to_the_last_line(
    check_gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, rows = checked(check_gpu, tmp_path, monkeypatch)
    reasons = {name: row["why"] for name, row in rows.items() if row["status"] != "OK"}
    assert reasons == {"compile, CUDA graphs": "tiny: compiling takes longer than everything else"}
    assert code == 0 and list(rows) == list(check_gpu.CHECKS)
    assert rows["fp16 like fp32"]["numbers"]["least_db"] > 40
    assert rows["DDP on one rank"]["numbers"]["largest_relative_difference"] < 1e-6
    assert rows["resume"]["numbers"]["largest_relative_difference"] == 0
    assert rows["training leg"]["numbers"]["steps"] == 12


def test_a_broken_parity_fails_and_the_others_go_on(
    check_gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A half-precision head whose noise is off by one, and a check that raises."""
    honest = check_gpu.Session.pipeline

    def broken(session: Any, precision: str = "fp32") -> Any:
        pipe = honest(session, precision)
        if precision == "bf16":
            with torch.no_grad():
                pipe.model.head.outputs.bias += 1.0
        return pipe

    def raises(session: Any) -> dict[str, float]:
        raise RuntimeError("first line\nsecond line")

    monkeypatch.setattr(check_gpu.Session, "pipeline", broken)
    parity = check_gpu.CHECKS["bf16 like fp32"]
    monkeypatch.setattr(
        check_gpu, "CHECKS", {"bf16": parity, "raises": raises, "last": lambda s: {}}
    )
    code, rows = checked(check_gpu, tmp_path, monkeypatch)
    assert code == 1
    assert [row["status"] for row in rows.values()] == ["FAILED", "FAILED", "OK"]
    assert rows["bf16"]["why"].endswith("dB to fp32; at least 40 are wanted")
    assert rows["raises"]["why"] == "RuntimeError: first line"


def test_over_is_skipped_and_no_gpu_is_one_line(
    check_gpu: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    session = check_gpu.Session(torch.device("cpu"), True, 0.0, tmp_path, 0.0)
    assert {row["status"] for row in check_gpu.run_checks(session)} == {"SKIPPED"}
    capsys.readouterr()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["check_gpu.py", "--out", str(tmp_path / "out")])
    assert exit_code(check_gpu.main) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()
