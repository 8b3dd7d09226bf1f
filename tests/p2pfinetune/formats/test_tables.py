"""Tables: cells of prose, a row at a time."""

from __future__ import annotations

import time

import pytest

from p2pfinetune.data.formats.table import table

ROWS = [
    ("date", "who", "text", "note"),
    ("2026-03-03", "Anna", "The ice is thin, so nobody walks on it.", ""),
    ("2026-03-04", "Bob", 'He said "stay", and we stayed; it was\ncold.', "A second long note about the ice."),
    ("2026-03-05", "Anna", "", ""),
    ("2026-03-06", "Bob", "Now the harbour is open again.", ""),
]
TEXTS = [
    "The ice is thin, so nobody walks on it.",
    'He said "stay", and we stayed; it was\ncold.\n\nA second long note about the ice.',
    "Now the harbour is open again.",
]


def written(separator: str) -> str:
    quoted = [['"' + cell.replace('"', '""') + '"' for cell in row] for row in ROWS]
    return "\r\n".join(separator.join(row) for row in quoted) + "\r\n"


@pytest.mark.parametrize(("name", "separator"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t"), ("a.csv", "|")])
def test_of_a_table_the_cells_of_prose_are_read_a_document_a_row(seen, name, separator):
    found = seen(name, written(separator).encode())

    assert found.texts == TEXTS
    assert found.sources == [f"{name}:2", f"{name}:3", f"{name}:5"]
    assert found.left_out == {"columns of tables without prose": 54}


def test_a_table_is_read_in_the_encoding_that_its_letters_speak_for(seen):
    text = "nr;text\n1;Früher hielt das Eis länger, sagte die Großmutter.\n2;Jetzt schmilzt es schon im März, früher als je.\n"

    assert seen("a.csv", text.encode("cp1252")).texts[0] == "Früher hielt das Eis länger, sagte die Großmutter."


def test_a_first_row_of_prose_is_no_header(seen):
    assert len(seen("a.csv", "\n".join(f"{i},The ice is {i} cm thick today." for i in range(3)).encode()).texts) == 3


def test_writing_without_spaces_is_prose(seen):
    assert seen("a.csv", "id,text\n1,港の氷はまだ薄いので誰も歩かない。\n".encode()).texts == [
        "港の氷はまだ薄いので誰も歩かない。"
    ]


@pytest.mark.parametrize(
    "text", ["a,b\n1,2\n3,4\n", "name,price\nIce,3\nBoat,4\n", "x\n", "https://a.b/c 1 2 3,1\n" * 3]
)
def test_a_table_of_numbers_and_names_is_refused(seen, text):
    assert seen("a.csv", text.encode()).reason == "a table without prose"


@pytest.mark.parametrize("rows", [30, 4700])
def test_a_quote_that_is_never_closed_takes_no_other_rows_with_it(seen, rows):
    text = 'id,text\n1,"The ice is thin today.\n' + "2,The harbour is open again.\n" * rows

    assert "The harbour is open again." in seen("a.csv", text.encode()).texts


@pytest.mark.parametrize("piece", ['"', ",", "\n", '"a b c d', "a b c d e,", ";|\t,"])
def test_no_table_keeps_the_reader_busy_for_longer_than_its_length(piece):
    begun = time.process_time()

    try:
        table(piece * (80_000 // len(piece)))
    except Exception as error:
        assert str(error)  # noqa: PT017

    assert time.process_time() - begun < 3.0
