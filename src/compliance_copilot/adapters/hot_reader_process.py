"""What the process that reads chunks does: a line of chunks in, a line for each reading out.

It knows texts and nothing else: no tenant, no file, no database, no key. It takes only what nobody
else wants of the processors, and ends with its input: so with the service, however that ends.
"""

import os
import sys
from contextlib import suppress
from pathlib import Path

_LEAST = 19
_MOST_BYTES = 1 << 29


def main() -> None:
    """Say by which rules this process reads, then read until the input ends."""
    _give_way()
    _bound_memory()
    import orjson

    from compliance_copilot.rag.reading import RULES, Reading

    given, told = sys.stdin.buffer, sys.stdout.buffer
    told.write(RULES.hex().encode() + b"\n")
    told.flush()
    for line in given:
        records = [Reading(*chunk).record for chunk in orjson.loads(line)]
        told.write(b"".join(record + b"\n" for record in records))
        told.flush()


def _give_way() -> None:
    """Be the last of all: as a process, and as a session where the system weighs sessions."""
    if sys.platform == "win32":
        return  # it was started so
    os.nice(_LEAST)
    with suppress(OSError):
        Path("/proc/self/autogroup").write_text(str(_LEAST))
    if sys.platform == "linux":
        with suppress(OSError):  # some containers forbid it
            os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def _bound_memory() -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MOST_BYTES, _MOST_BYTES))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a dump would hold texts


if __name__ == "__main__":
    with suppress(BrokenPipeError):  # who asked has gone
        main()
