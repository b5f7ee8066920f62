"""Panels of measured points and fitted curves as one self-contained SVG."""

import dataclasses
import math
import typing
from xml.sax.saxutils import escape

from common import median

WIDTH, HEIGHT, COLUMNS = 400, 270, 2  # of a panel
LEFT, RIGHT, TOP, BOTTOM = 58, 18, 62, 40
HEAD = 62
INK, FAINT, LINE, POINT = "#1f2328", "#656d76", "#0969da", "#bc4c00"


@dataclasses.dataclass
class Panel:
    name: str
    runs: dict  # x to the measurements there
    curve: typing.Callable[[float], float]
    notes: list  # lines below the name


def ticks(most):
    """Round steps from 0 to at least `most`, four to seven of them."""
    step = 10 ** math.floor(math.log10(most / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if most / (factor * step) <= 6)
    return [i * step for i in range(math.ceil(most / step) + 1)]


def text(x, y, content, size=12, colour=INK, anchor="start", weight="normal"):
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{colour}" text-anchor="{anchor}" font-weight="{weight}">{escape(content)}</text>'


def line(x1, y1, x2, y2, colour, width=1.0):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def drawn(panel, left, top):
    xs = list(panel.runs)
    y_ticks = ticks(max(max(runs) for runs in panel.runs.values()))
    x_most, y_most = xs[-1] * 1.06, y_ticks[-1]
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    x0, y0 = left + LEFT, top + TOP + height

    def at(x, y):
        return x0 + width * x / x_most, y0 - height * y / y_most

    parts = [text(x0, top + 20, panel.name, 14, weight="bold")]
    parts += [text(x0, top + 36 + 14 * i, note, 11, FAINT) for i, note in enumerate(panel.notes)]
    for value in y_ticks:
        _, y = at(0, value)
        parts += [line(x0, y, x0 + width, y, INK if value == 0 else "#d8dee4"), text(x0 - 7, y + 4, f"{value:g}", 11, FAINT, "end")]
    shown = -math.inf
    for value in xs:
        x, y = at(value, 0)
        parts.append(line(x, y, x, y + 4, INK))
        if x - shown > 24:
            parts.append(text(x, y + 17, f"{value:g}", 11, FAINT, "middle"))
            shown = x
    path = [at(x, panel.curve(x)) for x in (xs[0] + (xs[-1] - xs[0]) * i / 60 for i in range(61))]
    parts.append(f'<polyline fill="none" stroke="{LINE}" stroke-width="1.8" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in path)}"/>')
    for value, runs in panel.runs.items():
        x, y = at(value, median(runs))
        parts += [line(x, at(value, min(runs))[1], x, at(value, max(runs))[1], POINT, 1.5), f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.6" fill="{POINT}"/>']
    return parts


def svg(title, subtitle, panels):
    rows = math.ceil(len(panels) / COLUMNS)
    width, height = COLUMNS * WIDTH, HEAD + rows * HEIGHT
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
             'font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">',
             f'<rect width="{width}" height="{height}" fill="#ffffff"/>', text(LEFT, 30, title, 17, weight="bold"), text(LEFT, 50, subtitle, 12, FAINT)]
    key = width - RIGHT - 150
    parts += [f'<circle cx="{key}" cy="26" r="3.6" fill="{POINT}"/>', text(key + 10, 30, "measured", 11, FAINT), line(key + 78, 26, key + 98, 26, LINE, 1.8),
              text(key + 104, 30, "fit", 11, FAINT)]
    for i, panel in enumerate(panels):
        parts += drawn(panel, (i % COLUMNS) * WIDTH, HEAD + (i // COLUMNS) * HEIGHT)
    return "\n".join([*parts, "</svg>"]) + "\n"
