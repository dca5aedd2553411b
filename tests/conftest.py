"""Fixtures of the whole suite."""

import os
from pathlib import Path

# Before torch is imported: the threads of two test processes on two cores would wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Real datasets, weights and independent expected results that lie beside a development checkout."""
    folder = REPOSITORY.parent / "shared"
    if not (folder / "datasets").is_dir():
        pytest.skip("needs the shared development data beside the repository; a plain clone has none")
    return folder
