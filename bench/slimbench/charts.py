# SPDX-License-Identifier: Apache-2.0
"""
Bars as SVG, without anything that draws them but the reader's browser.

A chart is a grid of panels; a panel is a title, a unit and a bar, or a group of stacked bars, for each
network.
"""

import dataclasses
import math
import textwrap
from xml.sax.saxutils import escape

COLOURS = {"host": "#5f6670", "baseline": "#c2574f", "plain": "#d9a441", "slim-slow": "#7fb2dd",
           "slim": "#2d6fb4"}
_FURTHER = ("#4f9d69", "#8064a2", "#3fa7b5", "#a0522d")

# Of a stack, from the bottom: how much of the network's colour is left.
_SHADES = (1.0, 0.65, 0.35)

WIDTH, HEIGHT, MARGIN = 280, 220, 12
TOP, BOTTOM, LEFT = 52, 34, 8
COLUMNS, TITLE_WIDTH = 4, 40


@dataclasses.dataclass(frozen=True)
class Bar:
    """parts: from the bottom up. low, high: of the whole, for the line across it."""
    network: str
    parts: tuple
    low: float = None
    high: float = None
    label: str = ""    # above it
    caption: str = ""  # below it


@dataclasses.dataclass(frozen=True)
class Panel:
    title: str
    unit: str
    bars: tuple


def colour(network, networks):
    if network in COLOURS:
        return COLOURS[network]
    others = [n for n in networks if n not in COLOURS]
    return _FURTHER[others.index(network) % len(_FURTHER)]


def _text(x, y, text, size=11, anchor="middle", weight="normal"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(text)}</text>')


def _title(x, y, title, unit):
    """Two lines for a title, and one for its unit."""
    lines = textwrap.wrap(title, TITLE_WIDTH, max_lines=2, placeholder=" …")
    return [_text(x + MARGIN, y + 14 + 13 * k, line, 11, "start", "bold")
            for k, line in enumerate(lines)] \
        + [_text(x + MARGIN, y + 14 + 13 * len(lines), unit, 10, "start")]


def _panel(panel, x, y, networks):
    highest = max((max(sum(b.parts), b.high or 0) for b in panel.bars), default=0) or 1
    inside = WIDTH - 2 * MARGIN - LEFT
    base, room = y + HEIGHT - BOTTOM, HEIGHT - TOP - BOTTOM - 14
    step = inside / max(1, len(panel.bars))
    wide, small = min(step * 0.72, 46), 10 if len(panel.bars) <= 6 else 7
    lines = _title(x, y, panel.title, panel.unit)
    for k, bar in enumerate(panel.bars):
        left = x + MARGIN + LEFT + k * step + (step - wide) / 2
        top = base
        for part, shade in zip(bar.parts, _SHADES):
            tall = part / highest * room
            top -= tall
            lines.append(f'<rect x="{left:.1f}" y="{top:.1f}" width="{wide:.1f}" '
                         f'height="{tall:.1f}" fill="{colour(bar.network, networks)}" '
                         f'fill-opacity="{shade}"/>')
        middle, label_at = left + wide / 2, top - 4
        if bar.low is not None and bar.high > bar.low:
            low, high = (base - v / highest * room for v in (bar.low, bar.high))
            lines.append(f'<path d="M{middle:.1f} {low:.1f}V{high:.1f}M{middle - 4:.1f} {low:.1f}h8'
                         f'M{middle - 4:.1f} {high:.1f}h8" stroke="#000" fill="none"/>')
            label_at = high - 4
        lines += [_text(middle, label_at, bar.label, small),
                  _text(middle, base + 13, bar.caption or bar.network, small + 1)]
    lines.append(f'<path d="M{x + MARGIN} {base}h{WIDTH - 2 * MARGIN}" stroke="#000"/>')
    return lines


@dataclasses.dataclass(frozen=True)
class Lines:
    """A panel of lines: for each network (x, y) points. x has a logarithmic scale."""
    title: str
    unit: str
    lines: dict


def _log(x):
    return math.log10(max(x, 1))


def _line_panel(panel, x, y, networks):
    points = [p for line in panel.lines.values() for p in line]
    highest = max((v for _, v in points), default=0) or 1
    first, last = min(_log(k) for k, _ in points), max(_log(k) for k, _ in points)
    base, room = y + HEIGHT - BOTTOM, HEIGHT - TOP - BOTTOM - 14
    left, inside = x + MARGIN + 24, WIDTH - 2 * MARGIN - 44

    def place(k, v):
        across = (_log(k) - first) / (last - first) if last > first else 0.5
        return left + across * inside, base - v / highest * room

    lines = _title(x, y, panel.title, panel.unit) + [
             f'<path d="M{x + MARGIN} {base}h{WIDTH - 2 * MARGIN}" stroke="#000"/>']
    lines += [_text(place(k, 0)[0], base + 13, f"{k:,}", 9) for k in sorted({k for k, _ in points})]
    for network, line in panel.lines.items():
        where = [place(k, v) for k, v in line]
        paint = colour(network, networks)
        lines.append(f'<path d="M{"L".join(f"{a:.1f} {b:.1f}" for a, b in where)}" fill="none" '
                     f'stroke="{paint}" stroke-width="2"/>')
        lines += [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{paint}"/>' for a, b in where]
        if where:
            lines.append(_text(where[-1][0] + 5, where[-1][1] + 3, network, 9, "start"))
    lines.append(_text(x + MARGIN, y + TOP + 8, f"{highest:,.4g}", 9, "start"))
    return lines


def chart(panels, networks, legend=""):
    """A whole SVG document."""
    columns = min(COLUMNS, len(panels)) or 1
    rows = -(-len(panels) // columns)
    width = max(columns, 3 if legend else 1) * WIDTH  # a legend takes that much
    height = rows * HEIGHT + (24 if legend else 0)
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
             f'viewBox="0 0 {width} {height}" font-family="sans-serif">',
             f'<rect width="{width}" height="{height}" fill="#fff"/>']
    for k, panel in enumerate(panels):
        draw = _panel if isinstance(panel, Panel) else _line_panel
        lines += draw(panel, k % columns * WIDTH, k // columns * HEIGHT, networks)
    if legend:
        lines.append(_text(MARGIN, height - 8, legend, 10, "start"))
    return "\n".join(lines + ["</svg>", ""])
