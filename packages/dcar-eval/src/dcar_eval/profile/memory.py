"""The most memory that was in use at a time, on a GPU or a CPU."""

from __future__ import annotations

from pathlib import Path

import torch

PROCESS = Path("/proc/self")


class PeakMemory:
    """Watches from when it is made."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._watched = True
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif device.type == "cpu":
            try:
                (PROCESS / "clear_refs").write_text("5")  # Linux: resets the high-water mark
            except OSError:
                self._watched = False
        else:
            self._watched = False

    def read(self) -> int | None:
        """In bytes; None where the system does not say (another one than Linux, say)."""
        if not self._watched:
            return None
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        lines = (PROCESS / "status").read_text().splitlines()
        (kilobytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
        return int(kilobytes) * 1024
