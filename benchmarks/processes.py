"""What processes use: CPU seconds and memory of a tree, read from /proc (Linux)."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


@dataclass(frozen=True)
class Use:
    """CPU seconds since the start, bytes at this moment: shared pages counted once."""

    cpu_seconds: float
    memory_bytes: int


def used_by(pid: int) -> Use:
    """Return what a process and all below it use."""
    pids = _tree(pid)
    return Use(sum(map(_cpu_seconds, pids)), sum(map(_memory_bytes, pids)))


def _tree(root: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def _stat(pid: int) -> list[str]:
    """Return the fields after the name; none when the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _cpu_seconds(pid: int) -> float:
    fields = _stat(pid)
    # utime, stime and those of children that have ended
    return sum(map(int, fields[11:15])) / _TICKS if fields else 0.0


def _memory_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024
