"""Notes in Markdown: what a person typed, without what a program keeps in them."""

from __future__ import annotations

import pytest

from p2pfinetune.data.formats.markdown import markdown


def text_of(text: str) -> str:
    return markdown(text).parts[0].text


@pytest.mark.parametrize(
    "front",
    [
        '---\ntitle: "Ice"\ntags:\n  - sea\nlink: [[x]]\n---\n',
        "+++\ntitle = 'Ice'\n[extra]\na = 1\n+++\n",
        "---\n---\n",
        "---\n# made by a program\nid: 7\n---  \n",
    ],
)
def test_front_matter_is_left_out_and_counted(seen, front):
    found = seen("a.md", f"{front}# Ice\n\nIt *holds*.\n".encode())

    assert found.texts == ["# Ice\n\nIt *holds*."]
    assert found.left_out == {"front matter": len(front)}


@pytest.mark.parametrize(
    "text",
    [
        "---\n\nA text between two rulers, at 10:30.\n\n---\nmore\n",
        "---\nkey: but no end\n",
        "text\n---\nkey: value\n---\n",
        "+++\nNo key here\n+++\n",
    ],
)
def test_rulers_around_prose_are_prose(text):
    assert text_of(text) == text


def test_of_links_between_notes_the_words_stay():
    text = "See [[Harbour|the harbour]], [[Ice#Today]] and ![[map.png]].[[x]] ^block-1\n"

    assert text_of(text) == "See the harbour, Ice#Today and .x\n"


def test_properties_of_outliners_are_left_out():
    text = "- The ice\n  id:: 66a0a0a0-aaaa\n  collapsed:: true\n\t- holds ((66a0a0a0-1111-2222-3333-444444444444))\nC:: is no property of f(a::b)\n"

    assert text_of(text) == "- The ice\n\t- holds \n"


def test_code_and_all_other_markdown_is_as_it_was_typed():
    text = "# A `[[ -f x ]]`\n\n```bash\nif [[ -f $x ]]; then a=b[[1]]; fi\nid:: 3\n```\n| a | b |\n> quote [^1]\n<b>x</b>\n~~~\n[[Page]]\n~~~\n"

    assert text_of(text) == text
