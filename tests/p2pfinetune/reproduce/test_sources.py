"""Files to pieces of text."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfinetune.errors import TextError
from p2pfinetune.paper.sources import LEAST_PASSAGE, PASSAGE, passages, sentences, wikitext, without_licence


def test_wikitext_comes_as_people_write_it_and_without_unknown_words(tmp_path: Path) -> None:
    (tmp_path / "valid.txt").write_text(
        " = Title = \n \n The town ( 1 @,@ 000 people ) grew by 0 @.@ 5 % , and so on . It has a <unk> . \n Really ? Yes , it is the mayor 's . \n"
    )

    found = sorted(wikitext("valid.txt").read(tmp_path, 0))

    assert found == ["Really?", "The town (1,000 people) grew by 0.5%, and so on.", "Yes, it is the mayor's."]


def test_the_order_is_drawn_from_the_seed(tmp_path: Path) -> None:
    (tmp_path / "fr.txt").write_text("\n".join(map(str, range(50))))
    source = sentences("fr.txt")

    first, again, other = (list(source.read(tmp_path, seed)) for seed in (0, 0, 1))

    assert first == again != other
    assert sorted(first) == sorted(other)
    assert len(first) == 50


def test_a_licence_goes_and_another_first_comment_stays() -> None:
    assert without_licence("/*\n * Copyright\n */\npackage a;") == "package a;"
    assert without_licence("/* Adds. */\nint a;") == "/* Adds. */\nint a;"


def test_passages_are_short_and_end_where_lines_do() -> None:
    lines = [f"    line {i} of a long file with some words in it" for i in range(1000)]

    found = passages("\n".join(lines))

    assert all(LEAST_PASSAGE <= len(passage) <= PASSAGE + 100 for passage in found)
    assert {line for passage in found for line in passage.split("\n")} <= set(lines)
    assert len("".join(found)) > 0.9 * sum(map(len, lines))


def test_a_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "fr.txt").write_bytes(b"\xff\xfe\xff")

    with pytest.raises(TextError, match=r"fr\.txt cannot be read"):
        list(sentences("fr.txt").read(tmp_path, 0))
