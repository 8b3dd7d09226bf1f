r"""LaTeX as a person typed it, without its preamble and comments.

What stands between `\begin{document}` and `\end{document}` is read as it was typed: who writes LaTeX wants a model that
writes it. A file without these is a part of a larger one, and read whole. A `%` is a comment to the end of its line,
unless it is escaped or stands in verbatim text, or in `\url`.
"""

from __future__ import annotations

import re

from p2pfinetune.data.formats.parts import FileTexts, opened

PREAMBLE, COMMENTS = "preambles of LaTeX", "comments of LaTeX"
BEGIN, END = r"\begin{document}", r"\end{document}"
VERBATIM = re.compile(r"\\(begin|end)\{(verbatim|Verbatim|lstlisting|minted|comment|alltt)\*?\}")
COMMENT = re.compile(r"(?<!\\)((?:\\\\)*)%")
IN_LINE = re.compile(r"\\(url|href|path|nolinkurl)\{[^{}\n]{0,2000}\}|\\(verb|lstinline)\*?([^\w\s*])[^\n]{0,2000}?\3")


def tex(text: str) -> FileTexts:
    """The text of the document, without comments."""
    body = _body(text)
    kept: list[str] = []
    verbatim = ""
    for line in body.split("\n"):
        mark = VERBATIM.search(line)
        if mark and not verbatim and mark[1] == "begin":
            verbatim = mark[2]
            kept.append(line)
        elif verbatim:
            verbatim = "" if mark and mark[1] == "end" and mark[2] == verbatim else verbatim
            kept.append(line)
        elif (bare := _without_comment(line)).strip() or (not line.strip() and kept and kept[-1].strip()):
            kept.append(bare)
    found = "\n".join(kept)
    return opened(found, {PREAMBLE: len(text) - len(body), COMMENTS: len(body) - len(found)})


def _body(text: str) -> str:
    begin = text.find(BEGIN)
    if begin < 0:
        return text
    end = text.rfind(END)
    return text[begin + len(BEGIN) : end if end > begin else len(text)]


def _without_comment(line: str) -> str:
    if "%" not in line:
        return line
    covered = IN_LINE.sub(lambda found: "x" * len(found[0]), line)
    comment = COMMENT.search(covered)
    return line[: comment.end() - 1] if comment else line
