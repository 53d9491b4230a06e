#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Draws the rates of tests/bench/run (--json) as an SVG: for each file a panel, in it for each
number of writers a bar for each contender, and the spread of the rounds.

    tests/bench/plot.py OUT.svg "TITLE=FIGURES.json"..."""

import json
import statistics
import sys

WIDTH, HEIGHT, LEFT, TOP, GAP = 440, 190, 56, 60, 46
COLOURS = {"native": "#7f8c8d", "mount": "#1f6fb4", "recipe": "#d9a441", "null": "#c9d6df"}
NAMES = {"native": "native: open, write, fsync, close", "mount": "jsonlfs: open, write, close",
         "recipe": "native under flock", "null": "a mount that does nothing"}


def text(x, y, words, size=11, anchor="start", weight="normal"):
    words = words.replace("&", "&amp;").replace("<", "&lt;")
    return (f'<text x="{x:.0f}" y="{y:.0f}" font-size="{size}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{words}</text>')


def rect(x, y, width, height, colour):
    return (f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" '
            f'fill="{colour}"/>')


def line(x1, y1, x2, y2, colour):
    return (f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" '
            f'stroke="{colour}"/>')


def short(row):
    """"16 writers, 1 file" as "16 / 1"."""
    writers, files = (part.split()[0] for part in row.split(", "))
    return f"{writers} / {files}"


def panel(left, top, title, rows, most):
    """Bars from the bottom; `most` appends a second are the top."""
    bottom = top + HEIGHT
    out = [text(left, top - 8, title, 12, weight="bold")]
    for step in range(5):
        value = most * step / 4
        y = bottom - HEIGHT * step / 4
        out += [line(left, y, left + WIDTH, y, "#e3e3e3"),
                text(left - 6, y + 4, f"{value / 1000:g}k", 10, "end")]
    wide = WIDTH / len(rows)
    for number, row in enumerate(rows):
        bar = wide * 0.8 / len(COLOURS)
        x = left + wide * (number + 0.1)
        for contender, colour in COLOURS.items():
            rates = row["rates"][contender]
            high = [HEIGHT * rate / most for rate in (min(rates), max(rates))]
            height = HEIGHT * statistics.median(rates) / most
            out += [rect(x, bottom - height, bar - 1, height, colour),
                    line(x + bar / 2, bottom - high[0], x + bar / 2, bottom - high[1],
                         "#444")]
            x += bar
        out.append(text(left + wide * (number + 0.5), bottom + 14, short(row["row"]), 10,
                        "middle"))
    return out


def main():
    target, figures = sys.argv[1], []
    for argument in sys.argv[2:]:
        title, path = argument.split("=", 1)
        with open(path, encoding="utf-8") as file:
            rows = [r for r in json.load(file)["results"] if "null" in r.get("rates", {})]
        figures.append((title, rows))
    highest = max(max(rates) for _, rows in figures for r in rows
                  for rates in r["rates"].values())
    most = -(-highest // 10000) * 10000
    down = (len(figures) + 1) // 2
    size = (2 * (WIDTH + LEFT) + 20, TOP + down * (HEIGHT + GAP) + 10)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" '
           f'font-family="sans-serif">', rect(0, 0, *size, "#ffffff")]
    out.append(text(LEFT, 16, "Durable appends of 300 bytes a second, by writers / files; "
                    "the strokes are the slowest and the fastest round", 12))
    for number, (contender, colour) in enumerate(COLOURS.items()):
        x = LEFT + number * 230
        out += [rect(x, 24, 10, 10, colour), text(x + 15, 33, NAMES[contender])]
    for number, (title, rows) in enumerate(figures):
        left = LEFT + number % 2 * (WIDTH + LEFT)
        out += panel(left, TOP + number // 2 * (HEIGHT + GAP), title, rows, most)
    with open(target, "w", encoding="utf-8") as file:
        file.write("\n".join([*out, "</svg>"]) + "\n")


if __name__ == "__main__":
    main()
