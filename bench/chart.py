"""Line charts as SVG, for bench/RESULTS.md: one panel beside the other, the x axis in powers of two."""

from collections.abc import Sequence
from html import escape
from math import ceil, log2
from typing import NamedTuple, TypedDict

PANEL_WIDTH, PANEL_HEIGHT = 430, 300
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 34, 44
LEGEND_LINE = 18
# Told apart by people who see colours differently, too (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
DASHES = ("", "7 4", "2 3")


class Line(TypedDict):
    """One line: lines of the same *kind* have a colour, those of the same *variant* a dash pattern."""

    kind: str
    variant: str
    points: list[tuple[float, float]]


class Panel(TypedDict):
    """One chart; its y axis begins at zero."""

    title: str
    x_label: str
    y_label: str
    lines: list[Line]


class _Scale(NamedTuple):
    x_first: float
    x_last: float
    y_step: float
    y_steps: int

    def x(self, value: float) -> float:
        share = (log2(value) - self.x_first) / ((self.x_last - self.x_first) or 1)
        return LEFT + share * (PANEL_WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return TOP + (1 - value / (self.y_step * self.y_steps)) * (PANEL_HEIGHT - TOP - BOTTOM)


def draw_chart(panels: Sequence[Panel]) -> str:
    """The SVG document."""
    kinds = list(dict.fromkeys(line["kind"] for panel in panels for line in panel["lines"]))
    variants = list(dict.fromkeys(line["variant"] for panel in panels for line in panel["lines"]))
    colours = {kind: COLOURS[number % len(COLOURS)] for number, kind in enumerate(kinds)}
    dashes = {variant: DASHES[number % len(DASHES)] for number, variant in enumerate(variants)}
    width = PANEL_WIDTH * len(panels)
    height = PANEL_HEIGHT + LEGEND_LINE * max(len(kinds), len(variants)) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
    ]
    for number, panel in enumerate(panels):
        parts.append(f'<g transform="translate({number * PANEL_WIDTH} 0)">')
        parts += [*_panel(panel, colours, dashes), "</g>"]
    for number, kind in enumerate(kinds):
        parts += _legend(LEFT, PANEL_HEIGHT + LEGEND_LINE * number, kind, colours[kind], "")
    for number, variant in enumerate(variants):
        parts += _legend(LEFT + 220, PANEL_HEIGHT + LEGEND_LINE * number, variant, "#666", dashes[variant])
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, colours: dict[str, str], dashes: dict[str, str]) -> list[str]:
    scale = _scale(panel["lines"])
    parts = [_text(LEFT, 18, panel["title"], weight="bold")]
    for step in range(scale.y_steps + 1):
        at = scale.y(step * scale.y_step)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{PANEL_WIDTH - RIGHT}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 6, at + 4, f"{step * scale.y_step:g}", anchor="end"))
    values = sorted({x for line in panel["lines"] for x, _ in line["points"]})
    parts += [_text(scale.x(value), PANEL_HEIGHT - BOTTOM + 16, f"{value:g}", anchor="middle") for value in values]
    parts.append(_text((LEFT + PANEL_WIDTH) / 2, PANEL_HEIGHT - 10, panel["x_label"], anchor="middle"))
    parts.append(_text(PANEL_WIDTH - RIGHT, 18, panel["y_label"], anchor="end"))
    for line in panel["lines"]:
        points = [(scale.x(x), scale.y(y)) for x, y in line["points"]]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        colour, dash = colours[line["kind"]], dashes[line["variant"]]
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{_dash(dash)}/>')
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return parts


def _scale(lines: Sequence[Line]) -> _Scale:
    xs = [log2(x) for line in lines for x, _ in line["points"]]
    top = max(y for line in lines for _, y in line["points"]) or 1.0
    # The smallest step of 1, 2 or 5 times a power of ten that needs no more than six.
    y_step = next(step * 10.0**power for power in range(-9, 12) for step in (1, 2, 5) if top <= 6 * step * 10.0**power)
    return _Scale(min(xs), max(xs), y_step, ceil(top / y_step))


def _legend(x: float, y: float, words: str, colour: str, dash: str) -> list[str]:
    return [
        f'<path d="M{x} {y}h34" stroke="{colour}" stroke-width="2"{_dash(dash)}/>',
        _text(x + 42, y + 4, words),
    ]


def _dash(pattern: str) -> str:
    return f' stroke-dasharray="{pattern}"' if pattern else ""


def _text(x: float, y: float, words: str, *, anchor: str = "start", weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'
