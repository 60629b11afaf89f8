"""What drills in rounds share: their options, and a seed that is told when none was given."""

import argparse
import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn

from benchmarks.harness import new_seed

Run = Callable[[float, int, int], Awaitable[int]]
"""Takes seconds of each round, how many rounds, and a seed; returns the exit status."""


def started(what: str | None, run: Run, *, seconds: float, rounds: int = 3) -> NoReturn:
    """Run a drill as the command line says, and leave with its status."""
    parser = argparse.ArgumentParser(description=(what or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=float, default=seconds)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--seed", type=int, default=None)
    given = parser.parse_args()
    seed = new_seed() if given.seed is None else given.seed

    async def work() -> int:
        return await run(given.seconds, given.rounds, seed)

    raise SystemExit(asyncio.run(work()))
