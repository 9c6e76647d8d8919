"""docs/faults.md claims nothing that no test shows: every row names tests that exist, or says what it waits for.

The last column of a row holds names in backticks: of a test (`tests/a/test_b.py::test_c`), a file or a folder. A file
may be named without its folder where that is this one, or where there is but one of that name. “same” means what the
row above names. A row that waits begins with “open:” and the name of what it waits for.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
CATALOGUE = ROOT / "docs" / "faults.md"


class Row(NamedTuple):
    line: int
    cells: list[str]


def rows(text: str) -> Iterator[list[Row]]:
    """The rows of each table, without its head."""
    table: list[Row] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        if line.startswith("|"):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
            table.append(Row(number, cells))
        elif table:
            yield table[2:]
            table = []


@functools.cache
def files_named(name: str) -> tuple[Path, ...]:
    """A file or folder by its path from the root, or a file by its bare name: of the tests of faults, or of all."""
    for whole in (ROOT / name, Path(__file__).parent / name):
        if whole.exists() and ("/" in name or whole.is_file()):
            return (whole,)
    return tuple((ROOT / "tests").rglob(name)) if "/" not in name else ()


@functools.cache
def named_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text("utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def wrong_names(cell: str) -> list[str]:
    """What is in backticks and does not exist."""
    wrong = []
    for name in re.findall(r"`([^`]+)`", cell):
        file, _, test = name.partition("::")
        found = files_named(file)
        if len(found) != 1:
            wrong.append(f"`{name}`: {'no such file' if not found else 'several files of that name'}")
        elif test and (not found[0].is_file() or test.partition("[")[0] not in named_in(found[0])):
            wrong.append(f"`{name}`: no such test")
    return wrong


def complaints(text: str) -> list[str]:
    """One sentence for every row that claims what it does not show."""
    said = []
    for table in rows(text):
        above = False
        for line, cells in table:
            where = f"line {line}: {cells[0][:60]}"
            if len(cells) != 3 or not all(cells):
                said.append(f"{where}: a row has three columns, none of them empty")
                continue
            last = cells[2]
            same = re.match(r"same\b", last) is not None
            if last.lower().startswith("open:"):
                if not re.search(r"[^\W\d_]{3}", last[5:]):
                    said.append(f"{where}: open, and nothing is named that it waits for")
            elif same and not above:
                said.append(f"{where}: “same”, and no row above names a test")
            elif not same and "`" not in last:
                said.append(f"{where}: neither a test is named nor “open:” said, but “{last[:60]}”")
            said += [f"{where}: {wrong}" for wrong in wrong_names(last)]
            above = same and above if same else "`" in last
    return said


def test_every_row_of_the_catalogue_names_tests_that_exist_or_what_it_waits_for() -> None:
    text = CATALOGUE.read_text("utf-8")
    assert sum(len(table) for table in rows(text)) > 50
    assert not complaints(text), "\n".join(complaints(text))


HEAD = "| fault | what happens | where |\n|---|---|---|\n"
THIS = "tests/faults/test_catalogue.py"


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        (f"| a | b | `{THIS}` |", 0),
        (f"| a | b | `{THIS}::test_every_row_of_the_catalogue_names_tests_that_exist_or_what_it_waits_for` |", 0),
        ("| a | b | `test_catalogue.py`, `tests/core` |", 0),
        ("| a `x` | b \\| c | `test_catalogue.py` |", 0),
        ("| a | b | open: LoRA |", 0),
        (f"| a | b | `{THIS}` |\n| c | d | same |\n| c | d | same, and `tests/core` |", 0),
        ("| a | b | `tests/faults/test_nothing.py` |", 1),
        ("| a | b | `test_nothing.py` |", 1),
        (f"| a | b | `{THIS}::test_nothing` |", 1),
        ("| a | b | `tests/core::test_nothing` |", 1),
        ("| a | b | `rig.py` |", 1),
        (f"| a | b | `{THIS}`, `tests/nowhere` |", 1),
        ("| a | b | open: |", 1),
        ("| a | b | open: 7 |", 1),
        ("| a | b | |", 1),
        ("| a | | `tests/core` |", 1),
        ("| a | b |", 1),
        ("| a | b | it is well tested |", 1),
        ("| a | b | same |", 1),
        ("| a | b | open: LoRA |\n| c | d | same |", 1),
    ],
)
def test_what_a_row_may_say(table: str, wrong: int) -> None:
    assert len(complaints(f"# Faults\n\n{HEAD}{table}\n\nText.\n")) == wrong
