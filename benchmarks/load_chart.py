"""The latencies of a run as a picture: which share of the requests was answered within what."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("svg")
from matplotlib import pyplot


def draw(path: Path, title: str, latencies: Mapping[str, Sequence[float]]) -> None:
    """Write a chart of cumulative shares, one line for each operation."""
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for operation, values in sorted(latencies.items()):
        ordered = sorted(values)
        shares = [(n + 1) / len(ordered) for n in range(len(ordered))]
        axes.plot(ordered, shares, label=f"{operation} ({len(ordered)})")
    axes.set_xscale("log")
    axes.set_xlabel("latency at the client, ms")
    axes.set_ylabel("share answered within")
    axes.axhline(0.95, linewidth=0.5, color="grey")
    axes.set_title(title)
    axes.legend(loc="lower right")
    axes.grid(visible=True, linewidth=0.3)
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)
