"""The bytes of a file as text."""

from __future__ import annotations

import random
from pathlib import PurePath

import pytest

from p2pfinetune.data.encodings import FileText, decode
from p2pfinetune.data.guess import PIECE, SAMPLE_BYTES, EncodingCandidate, Evidence, alone, sample_of, settle, weigh
from tests.p2pfinetune.foreign_texts import CASES, TEXTS, page, sentences

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


@pytest.mark.parametrize(("language", "encoding"), CASES)
def test_a_paragraph_and_a_page_in_an_old_encoding_are_read_as_what_they_are(language, encoding):
    for text in (TEXTS[language] + "\n", page(language)):
        found = decode(text.encode(encoding))

        assert found is not None
        assert (found.text, found.replaced) == (text, 0)


@pytest.mark.parametrize("language", ["Polish", "Russian", "German", "Japanese"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_its_mark_is_read(language, encoding):
    assert decode(page(language).encode(encoding)).text == page(language)


WESTERN = """© 2003 Jane Smith. All rights reserved.
The field is 25 m² at 20 °C
“so” – they’re here…
# José García
½ cup of sugar, ¼ of salt
5 £ or 3 €
à bientôt
¿Qué?
Straße 5"""


@pytest.mark.parametrize("line", [*WESTERN.split("\n"), "café", "naïve", "Müller", "façade", "Zoë", "Ångström"])
def test_a_line_of_western_text_needs_no_neighbours(line):
    assert decode(line.encode("cp1252")).text == line


def test_tables_drawn_in_dos_are_read():
    table = "┌──────────┬──────┐\n│ name     │ size │\n├──────────┼──────┤\n│ READ.ME  │ 1024 │\n└──────────┴──────┘\n"

    assert decode(table.encode("cp437")).text == table


def test_what_fits_no_language_is_not_guessed():
    dice = random.Random(3)

    assert decode(bytes(dice.randrange(128, 256) if dice.random() < 0.5 else 0x61 for _ in range(2000))) is None
    assert decode("seńor".encode("cp1250")) is None  # one letter, which Spanish or Polish may have meant


def test_what_fits_no_language_is_never_chosen_and_a_rival_all_the_same():
    unfit, fit = EncodingCandidate("cp1250", 0.0, text=0, fits=False), EncodingCandidate("cp1252", -1.0, text=1)

    assert alone(Evidence((fit,))) == "cp1252"
    assert alone(Evidence((unfit, fit))) is None
    assert alone(Evidence((unfit,))) is None


def test_the_files_of_a_folder_settle_what_a_line_leaves_open():
    lines = sentences("Croatian")
    weighed = {PurePath(f"/notes/{number}.txt"): weigh(line.encode("cp1250")) for number, line in enumerate(lines)}
    lone = weigh("več".encode("cp1250"))
    weighed[PurePath("/notes/deep/inside/a.txt")] = lone
    clear = {PurePath("/notes/russian.txt"): weigh(page("Russian").encode("koi8_r"))}

    settled = settle(weighed | clear)

    assert alone(lone) is None
    assert {settled[path] for path in weighed} == {"cp1250"}
    assert settled[PurePath("/notes/russian.txt")] == "koi8-r"


def test_the_order_of_reading_settles_nothing():
    cases = [*CASES, *CASES[::-1]]
    weighed = {
        PurePath(f"/{number % 3}/{number}"): weigh(sentences(language)[0].encode(encoding))
        for number, (language, encoding) in enumerate(cases)
        if not encoding.startswith("iso2022")
    }
    backwards = dict(reversed(weighed.items()))

    assert settle(weighed) == settle(backwards)


def test_a_sample_is_bounded_and_finds_what_is_not_ascii_wherever_it_stands():
    english = b"Nothing but ASCII in this line.\n" * 20_000
    sample = sample_of(english + "Grüße\n".encode("cp1252") * 100_000 + english)

    assert "Grüße".encode("cp1252") in sample
    assert len(sample) <= SAMPLE_BYTES + 2 * PIECE
