"""Trials as processes of their own: started, waited for, asked to end; and why one failed, by what it said last."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_TAIL = 3  # lines of a trial's output in a message


class TrialProcesses:
    """Trainings in processes of their own: a process gives back all memory, and takes no other with it when it dies."""

    def __init__(self) -> None:
        self._processes: set[subprocess.Popen[bytes]] = set()

    def __call__(self, words: Sequence[str], environment: Mapping[str, str], output: Path) -> int:
        """Trains with these words, prints into a file, and gives the exit code."""
        command = [sys.executable, "-m", "finemask", "train", *words]
        with output.open("ab") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env={**os.environ, **environment})
            self._processes.add(process)
            try:
                return process.wait()
            finally:
                self._processes.discard(process)

    def stop(self) -> None:
        """Asks all to save and end."""
        for process in list(self._processes):
            process.terminate()


def last_words(output: Path, code: int) -> str:
    """Why a training failed, by what it said last."""
    text = output.read_text(encoding="utf-8", errors="replace") if output.is_file() else ""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if line.startswith("error: ")), None)
    return said or f"exit code {code}: {' / '.join(lines[-_TAIL:]) or 'it said nothing'}"
