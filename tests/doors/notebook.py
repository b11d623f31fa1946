"""The notebook of examples/: its cells, and the same as a program, which type checkers can read.

``python tests/doors/notebook.py`` prints the program.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from textwrap import indent

__all__ = ["cells", "program"]

_NOTEBOOK = Path(__file__).parents[2] / "examples" / "notebook.ipynb"


def cells() -> list[str]:
    """Return the code of each cell."""
    cells = json.loads(_NOTEBOOK.read_text())["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def program() -> str:
    """Return a module that runs all cells in one coroutine, as a notebook's loop does."""
    return "async def notebook() -> None:\n" + indent("\n\n".join(cells()), "    ") + "\n"


if __name__ == "__main__":
    sys.stdout.write(program())
