"""Tables of a text file (.csv, .tsv): the cells that hold prose, a document a row; a table of numbers is none.

A column is prose if a third of its filled cells are: several words, mostly letters. A row's text is its cells in these
columns, parted by blank lines; names, dates and numbers in other columns are left out and counted. The first row is the
header if its cells in these columns are no prose. What separates cells is what parts most of the first lines into
equally many.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence

from p2pfinetune.data.formats.parts import FileTexts, FormatError, TextPart, without_zeros

NO_PROSE, OTHER_COLUMNS = "a table without prose", "columns of tables without prose"
SAMPLE = 200  # rows by which separator and columns are judged
SEPARATORS = ",;\t|"
LEAST_PROSE = 1 / 3  # of the filled cells of a column
LEAST_WORDS, LEAST_SIGNS = 4, 12  # of a cell of prose; signs of writing without spaces
LEAST_LETTERS = 0.6  # of what is not white space in it
MAX_LINES = 20  # in the last cell, if a quote before was never closed
MAX_COLUMNS = 2000
MAX_CHARACTERS = 64 << 20  # its cells take several times that
WIDE = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")


def table(text: str) -> FileTexts:
    """The texts of its rows, each with the number of its line of cells."""
    if len(text) > MAX_CHARACTERS:
        raise FormatError(f"a table larger than {MAX_CHARACTERS >> 20} MiB")
    rows = _rows(text)
    prose = _columns_of_prose(rows[:SAMPLE])
    if not prose:
        raise FormatError(NO_PROSE)
    begin = 0 if any(_is_prose(rows[0][column]) for column in prose if column < len(rows[0])) else 1
    parts, other = [], 0
    for number, row in enumerate(rows[begin:], start=begin + 1):
        cells = [row[column].strip() for column in prose if column < len(row)]
        other += sum(map(len, row)) - sum(map(len, cells))
        if words := "\n\n".join(cell for cell in cells if cell):
            parts.append(TextPart(words, f":{number}"))
    return FileTexts(parts=tuple(parts), left_out=without_zeros({OTHER_COLUMNS: other}))


def _rows(text: str) -> list[list[str]]:
    separator = _separator(text)
    try:
        found = _read(text, separator, csv.QUOTE_MINIMAL)
    except csv.Error:  # a cell too long
        return _read(text, separator, csv.QUOTE_NONE)
    last = found[-1][-1] if found else ""
    is_open = text.count('"') % 2 == 1 and last.count("\n") > MAX_LINES
    return _read(text, separator, csv.QUOTE_NONE) if is_open else found


def _read(text: str, separator: str, quoting: int) -> list[list[str]]:
    found = csv.reader(io.StringIO(text, newline=""), delimiter=separator, quoting=quoting)  # type: ignore[arg-type]
    return [row[:MAX_COLUMNS] for row in found if any(cell.strip() for cell in row)]


def _separator(text: str) -> str:
    """The one by which the first lines have most often the same number of cells, and more than one."""
    lines = text[:65_536].split("\n")[:SAMPLE]
    return max(SEPARATORS, key=lambda one: _alike([line.count(one) for line in lines if line.strip()]))


def _alike(counts: Sequence[int]) -> tuple[int, int]:
    usual, times = Counter(count for count in counts if count).most_common(1)[0] if any(counts) else (0, 0)
    return times, usual


def _columns_of_prose(rows: Sequence[Sequence[str]]) -> list[int]:
    width = max(map(len, rows), default=0)
    found = []
    for column in range(width):
        filled = [row[column] for row in rows if column < len(row) and row[column].strip()]
        if filled and sum(map(_is_prose, filled)) >= LEAST_PROSE * len(filled):
            found.append(column)
    return found


def _is_prose(cell: str) -> bool:
    words = cell.split()
    signs = sum(map(len, words))
    letters = sum(map(str.isalpha, cell))
    is_long = len(words) >= LEAST_WORDS or len(WIDE.findall(cell)) >= LEAST_SIGNS
    return is_long and letters >= LEAST_LETTERS * signs
