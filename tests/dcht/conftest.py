"""What several of dcht's test modules use."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest


@pytest.fixture
def run_ranks() -> Callable[..., list[str]]:
    """Run a Python command line as gloo ranks, as a launcher would; returns their stderr."""

    def run(size: int, *words: object) -> list[str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(size)}
        ranks = [
            subprocess.Popen(
                [sys.executable, *map(str, words)],
                env=os.environ | meeting | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in range(size)
        ]
        try:
            told = [process.communicate(timeout=400)[1] for process in ranks]
        finally:
            for process in ranks:
                process.kill()
        assert [process.returncode for process in ranks] == [0] * size, "\n".join(told)
        return told

    return run
