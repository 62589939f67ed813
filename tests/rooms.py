"""The table of rooms in docs/architecture.md, from the packages' own first lines: `python tests/rooms.py` writes it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
BETWEEN = re.compile(r"(?<=<!-- rooms -->\n).*(?=<!-- /rooms -->)", re.DOTALL)


def table() -> str:
    """A row for each package: its folder, what it says of itself, and how many modules it has."""
    rows = ["| room | what it does | modules |", "|---|---|---|"]
    for file in sorted([*(ROOT / "src/kennel").rglob("__init__.py"), *(ROOT / "serving").rglob("__init__.py")]):
        folder = file.parent
        if folder != ROOT / "src/kennel":
            first = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split("\n")[0]
            rows.append(f"| `{folder.relative_to(ROOT)}/` | {first} | {len(list(folder.glob('*.py'))) - 1} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(BETWEEN.sub(lambda _: table(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
