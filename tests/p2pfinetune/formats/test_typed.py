"""Org and LaTeX: as they were typed, without what is no text."""

from __future__ import annotations

import time

import pytest

from p2pfinetune.data.formats.org import org
from p2pfinetune.data.formats.tex import tex

ORG = """#+TITLE: Ice
#+FILETAGS: :sea:
* The harbour                                    :winter:
SCHEDULED: <2026-03-03 Tue>
:PROPERTIES:
:ID: 66a0
:END:
:LOGBOOK:
CLOCK: [2026-03-03 Tue 10:11]
:END:
See [[https://example.org][the page]] and [[file:x.org]], a[1].
# a comment
- item :: its text
#+begin_src python
# stays
print([[1]])
:END:
#+end_src
#+RESULTS:
: 1
: 2
| a | b |

Then *bold*.
#+RESULTS: x
#+begin_example
out
#+end_example
End.
"""


def test_of_org_drawers_keywords_and_results_are_left_out(seen):
    found = seen("a.org", ORG.encode())

    assert found.texts == [
        (
            "Ice\n* The harbour                                    :winter:\n"
            "See the page and file:x.org, a[1].\n- item :: its text\n"
            "#+begin_src python\n# stays\nprint([[1]])\n:END:\n#+end_src\n\nThen *bold*.\nEnd."
        )
    ]
    assert list(found.left_out) == ["properties of notes", "outputs of code in notes"]


@pytest.mark.parametrize(
    "text", ["A line.\n:not a drawer\n", ":drawer:\ntext\n* heading\n:END:\n", "#hashtag and text\n"]
)
def test_org_that_only_looks_so_stays(text):
    assert org(text).parts[0].text == text


TEX = r"""\documentclass{article} % class
\usepackage{x}
\title{Ice}
\begin{document}
\section{The harbour}% here
The ice is 5\,\% thin, see \url{https://a.b/c%20d} and \verb|%x|. % not this
% nor this
It \emph{holds} $x^2$.

\begin{verbatim}
% code
\end{verbatim}
\end{document}
rest
"""


def test_a_drawer_holds_no_other():
    assert org(":a:\n:b:\ntext\n:END:\nmore").parts[0].text == ":a:\nmore"


def test_of_latex_the_document_is_read_as_it_was_typed(seen):
    found = seen("a.tex", TEX.encode())

    assert found.texts == [
        (
            "\\section{The harbour}\nThe ice is 5\\,\\% thin, see \\url{https://a.b/c%20d} and \\verb|%x|.\n"
            "It \\emph{holds} $x^2$.\n\n\\begin{verbatim}\n% code\n\\end{verbatim}"
        )
    ]
    assert list(found.left_out) == ["preambles of LaTeX", "comments of LaTeX"]


@pytest.mark.parametrize("text", ["A chapter\nof a book.", "\\section{x} \\\\% c"])
def test_a_part_of_a_larger_file_is_read_whole(text):
    assert tex(text).parts[0].text == text.removesuffix("% c")


@pytest.mark.parametrize("read", [org, tex])
@pytest.mark.parametrize(
    "piece",
    ["\\", "[[", "%", ":a:\n", "#+begin_x\n", "#+results:\n:a:\n", "\\url{", "\\verb|", "#+results:\n#+begin_a\n"],
)
def test_no_text_keeps_the_reader_busy_for_longer_than_its_length(read, piece):
    begun = time.process_time()

    read(piece * (100_000 // len(piece)))

    assert time.process_time() - begun < 3.0
