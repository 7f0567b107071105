"""Sums up what the Swift tests printed, and puts Swift's pictures beside Python's.

    python scripts/swift_summary.py LOG CASES

Fails where nothing was compared, so that tests which skipped do not look like tests that passed.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageChops, ImageDraw

_CHECKED = re.compile(r"^checked (\d+) (.+)$", re.MULTILINE)
_CASE = re.compile(r"^case (\S+): largest difference (\d+) of 255, (\d+) ", re.MULTILINE)
_LABEL = 14
# The sheet shows as many cases.
_SHOWN = 12


def sheet(cases: Path, names: Sequence[str], file: Path) -> None:
    """Draws a row per case: Python's picture, Swift's, and their difference 64 times as strong."""
    rows = []
    for name in names:
        pair = [Image.open(cases / side / f"{name}.ppm") for side in ("python", "swift")]
        difference = ImageChops.difference(*pair).point(lambda value: min(255, 64 * value))
        rows.append((name, [*pair, difference]))
    width = max(sum(each.width for each in pictures) for _, pictures in rows)
    heights = [pictures[0].height + _LABEL for _, pictures in rows]
    result = Image.new("RGB", (width, sum(heights)), "white")
    pen, top = ImageDraw.Draw(result), 0
    for (name, pictures), height in zip(rows, heights, strict=True):
        pen.text((2, top + 1), f"{name}: Python, Swift, difference x 64", fill="black")
        for column, picture in enumerate(pictures):
            result.paste(picture, (column * pictures[0].width, top + _LABEL))
        top += height
    result.save(file)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("log", type=Path)
    parser.add_argument("cases", type=Path)
    options = parser.parse_args()
    text = options.log.read_text(encoding="utf-8", errors="replace")
    checked = [int(count) for count, _ in _CHECKED.findall(text)]
    found = [(name, int(most), int(count)) for name, most, count in _CASE.findall(text)]
    expected = len(json.loads((options.cases / "cases.json").read_text(encoding="utf-8")))
    if not checked or len(found) < expected:
        sys.exit(f"Only {sum(checked)} numbers and {len(found)} of {expected} cases were compared.")
    equal = sum(count == 0 for _, _, count in found)
    most = max(most for _, most, _ in found)
    pictures = [path.stem for path in sorted((options.cases / "swift").glob("demo-*.ppm"))]
    if pictures:
        sheet(options.cases, pictures[:_SHOWN], options.log.with_name("sheet.png"))
    print(
        f"{sum(checked)} vectors in {len(checked)} groups agree; {len(found)} cases drawn by Swift "
        f"and by Python: {equal} equal, the largest difference {most} of 255."
    )


if __name__ == "__main__":
    main()
