"""The bytes of a file as text."""

from __future__ import annotations

import pytest

from p2pfinetune.data.encodings import FileText, decode

GERMAN = "Über die Brücke, an der Mühle vorbei: dort wächst Gras.\n" * 3


def test_one_byte_that_is_no_utf_8_costs_that_byte_and_no_more():
    data = GERMAN.encode()

    assert decode(data + b"one \xe9 wrong\n") == FileText(GERMAN + "one \ufffd wrong\n", "utf-8", 1)
    assert decode(data + b"a slip \0\n" + data * 100) == FileText(GERMAN + "a slip \ufffd\n" + GERMAN * 100, "utf-8", 1)


def test_a_file_that_is_being_written_is_read_as_what_it_will_be():
    data = "Zuerst kommt der Fluß, dann die Brücke, dann das Haus, dann ein 🐟".encode()

    found = [decode(data[:end]) for end in range(data.index(b"\xc3") + 2, len(data) + 1)]

    assert {text.encoding for text in found} == {"utf-8"}
    assert max(text.replaced for text in found) == 1
    assert found[-1].replaced == 0


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_marked_unicode_is_read_up_to_an_unfinished_end(encoding):
    data = f"\ufeff{GERMAN}ö".encode(encoding)

    assert decode(data[:-1]) == FileText(GERMAN + "\ufffd", encoding, 1)


def test_a_replacement_character_of_the_file_itself_is_not_counted():
    assert decode("was \ufffd lost before\n".encode()) == FileText("was \ufffd lost before\n", "utf-8")


def test_what_a_file_system_put_behind_a_text_is_no_reason_to_leave_it_out():
    assert (
        decode(b"the last line before the power failed\n" + bytes(500)).text
        == "the last line before the power failed\n"
    )
