"""Line charts as PNG, for bench/RESULTS.md: one panel beside the other.

matplotlib draws them; it is wanted for benchmarks alone (``requirements-bench.lock``, decision 0043).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

PANEL_INCHES = (4.6, 3.9)
DOTS_PER_INCH = 110
# Told apart by people who see colours differently, too (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
STYLES = ("-", "--", ":")
MARKERS = ("o", "s", "^")


class Line(TypedDict):
    """One line: lines of the same *kind* have a colour, those of the same *variant* a style."""

    kind: str
    variant: str
    points: list[tuple[float, float]]


class Panel(TypedDict):
    """One chart: the x axis in powers, of two unless said otherwise; the y axis begins at zero unless it is in powers
    of ten.
    """

    title: str
    x_label: str
    y_label: str
    lines: list[Line]
    x_base: NotRequired[int]
    y_powers: NotRequired[str]  # "10", or nothing


def draw_chart(panels: Sequence[Panel], path: Path) -> None:
    """Draw *panels* into the PNG file *path*."""
    from matplotlib.figure import Figure  # noqa: PLC0415 - who only measures needs none

    kinds = list(dict.fromkeys(line["kind"] for panel in panels for line in panel["lines"]))
    variants = list(dict.fromkeys(line["variant"] for panel in panels for line in panel["lines"]))
    figure = Figure((PANEL_INCHES[0] * len(panels), PANEL_INCHES[1]), layout="constrained")
    lines: dict[str, Any] = {}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        axes.set_title(panel["title"], fontsize=10, fontweight="bold")
        axes.set_xscale("log", base=panel.get("x_base", 2))
        axes.set_xlabel(panel["x_label"])
        axes.set_ylabel(panel["y_label"])
        for line in panel["lines"]:
            xs, ys = zip(*line["points"], strict=True)
            variant = variants.index(line["variant"])
            label = ", ".join(word for word in (line["kind"], line["variant"]) if word)
            (lines[label],) = axes.plot(
                xs,
                ys,
                color=COLOURS[kinds.index(line["kind"]) % len(COLOURS)],
                linestyle=STYLES[variant % len(STYLES)],
                marker=MARKERS[variant % len(MARKERS)],
                markersize=4,
            )
        values = sorted({x for line in panel["lines"] for x, _ in line["points"]})
        axes.set_xticks(values, [f"{value:,g}" for value in values])
        axes.minorticks_off()
        if panel.get("y_powers"):
            axes.set_yscale("log", base=10)
        else:
            axes.set_ylim(bottom=0)
        axes.grid(axis="y", color="#dddddd")
    figure.legend(lines.values(), lines.keys(), loc="outside lower center", ncols=min(len(lines), 3), fontsize=8)
    # No date and no version in the file: the same numbers are the same bytes.
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})
