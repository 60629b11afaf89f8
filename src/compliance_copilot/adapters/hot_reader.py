"""The service's side of reading chunks: a process of its own that gives way to everything.

Reading takes a millisecond or two for each chunk, all of it under the interpreter's lock: in the
service's process it would hold up whoever asks. Must not enter: which chunks, where readings go.
"""

import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

import orjson

from compliance_copilot.adapters import hot_reader_process
from compliance_copilot.core.threads import to_the_end
from compliance_copilot.core.vocabulary import Chunk
from compliance_copilot.rag.reading import RULES

_COMMAND = ("-P", "-m", hot_reader_process.__name__)
"""`-P`: what lies in the folder where the service was started is not imported."""


class HotReader:
    """Reads chunks, one call at a time; its process lives while somebody has it open."""

    def __init__(self, rules: bytes = RULES) -> None:
        self._rules = rules.hex().encode()
        self._process: subprocess.Popen[bytes] | None = None
        self._left = threading.Event()
        self._open = 0

    @property
    def pid(self) -> int | None:
        """The process that reads, None while there is none."""
        return self._process.pid if self._process else None

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Let the process live for as long as the context, once it has been needed."""
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1
            if not self._open:
                await to_the_end(self._end)

    async def read(self, chunks: Sequence[Chunk]) -> list[bytes]:
        """Return what is to be kept of reading each chunk.

        Raises ChildProcessError when the process has died, or reads by other rules than this one.
        """
        asked = [[c.text, c.title, c.section, c.headings] for c in chunks]
        self._left.clear()
        return await to_the_end(partial(self._answered, asked), self._leave)

    def _answered(self, asked: list[Any]) -> list[bytes]:
        given, told = _pipes(self._process or self._started())
        with suppress(BrokenPipeError):
            given.write(orjson.dumps(asked) + b"\n")
            given.flush()
        lines = [told.readline() for _ in asked]
        if not all(line.endswith(b"\n") for line in lines):
            self._end()
            raise ChildProcessError("The process that reads chunks has ended.")
        return [line[:-1] for line in lines]

    def _started(self) -> subprocess.Popen[bytes]:
        """Start it, with nothing of this process's environment."""
        self._process = process = subprocess.Popen(  # noqa: S603 - our own words
            [sys.executable, *_COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # a traceback may quote a text
            env={"PYTHONPATH": _import_path(), "OPENBLAS_NUM_THREADS": "1"},
            start_new_session=True,  # a terminal's Ctrl-C is the service's
            creationflags=getattr(subprocess, "IDLE_PRIORITY_CLASS", 0),
        )
        if self._left.is_set():  # while it was started
            process.kill()
        _, told = _pipes(process)
        if told.readline() != self._rules + b"\n":
            self._end()
            raise ChildProcessError("The process that reads chunks has not started by these rules.")
        return process

    def _leave(self) -> None:
        self._left.set()
        if self._process is not None:
            self._process.kill()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()  # it has nothing to lose
        process.wait()
        for pipe in _pipes(process):
            with suppress(BrokenPipeError):  # what it was to be told is of no use any more
                pipe.close()


def _pipes(process: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise AssertionError("it was started with both")
    return process.stdin, process.stdout


def _import_path() -> str:
    home = str(Path(hot_reader_process.__file__).parents[2])
    return os.pathsep.join([home, *filter(None, sys.path)])
