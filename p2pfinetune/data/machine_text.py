r"""Find what stands in a text file and is no text of a person's: attachments, keys, dumps, generated code. Pure.

A mail box is mostly base64 and a notebook mostly its outputs; who learns them learns noise, or a key by heart.
What is found is left out, as the run it is, and the text around it stays; formats are taken apart in `formats`, whose
texts are looked through here like all others. The danger is on both sides
(docs/adr/ 0021): a key that is learnt by heart can be asked out of an adapter that strangers hold (Carlini et al. 2021,
arXiv 2012.07805), and a person's text that is left out is missing without a trace, so what is left out is counted and
told.

Each kind has a pattern that prose, verse, code, logs and tables do not match, in any language, and a measure that
decides about what matches. The measure of encoded data is how often neighbouring characters change between capitals,
small letters and digits: random base64 changes at 62 % of all places, hexadecimal at 47 %, namesInThisManner at 25 %,
words at none. Compounds, paths and languages without spaces are thus told from it by what they are, not by length.

No pattern looks at a place more than a bounded number of times, whatever the text: one file must not stop a worker.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate

from p2pfinetune.data.report import NOTHING
from p2pfinetune.data.secrets import REASON as SECRET
from p2pfinetune.data.secrets import secrets

Span = tuple[int, int]

LEAST = 100  # characters: a run below is a link or a digest, and people write those into their text
LONG_LINE = 400  # characters: a paragraph may be longer, and is then told by its spaces or its letters
LEAST_IN_BLOCK = 40  # in each of several lines that follow one another; mails have 76, PEM has 64
HUGE_RUN = 1000  # characters without a space, all ASCII: nobody writes that
LEAST_CHANGES = 0.4  # of the places in a run of encoded data
LEAST_CHANGES_IN_HUGE = 0.05  # in pictures of few colours the same byte stands many times in a row
LEAST_LETTERS = 0.8  # of a run; rulers are made of signs alone
MOST_SPACES = 0.06  # of a minified line; English has 0.17, code written by hand more
LEAST_SIGNS = 0.12  # of a minified line; prose has 0.05
MOST_FOREIGN = 0.1  # characters beyond ASCII in a minified line; without spaces it may be Japanese or Thai
MOST_COMMANDS = 0.02  # of the characters of a minified line begin one of LaTeX; in formulas a tenth
TABLE_LINES, TABLE_CHARACTERS = 40, 1000  # of a table of numbers; a shorter one belongs to the text around it
LEAST_DIGITS = 0.5  # of the characters of a line in such a table, and of a long line of numbers
DUMP_LINES = 4
BEGINNING = 1500  # characters in which a generated file says so
LOCK_FILES = frozenset(
    {"package-lock.json", "npm-shrinkwrap.json", "yarn.lock", "pnpm-lock.yaml", "bun.lock", "cargo.lock", "poetry.lock"}
    | {"uv.lock", "pdm.lock", "pipfile.lock", "composer.lock", "gemfile.lock", "go.sum", "flake.lock", "mix.lock"}
    | {"pubspec.lock", "podfile.lock", "package.resolved", "packages.lock.json", "gradle.lockfile", "deno.lock"}
)
MINIFIED = (".min.js", ".min.mjs", ".min.css")  # by name: a short one has no line that shows it

KEY = re.compile(r"-----BEGIN ([A-Z0-9 ]{3,50})-----((?:(?!-----BEGIN ).)*?)-----END \1-----", re.DOTALL)
KEY_HEADER = re.compile(r"^[A-Za-z0-9-]+: .*$", re.MULTILINE)
DATA_URI = re.compile(
    r"data:[\w.+-]{0,40}(?:/[\w.+*-]{1,80})?(?:;[\w.+-]{1,40}=[^;,\s]{1,80}){0,4}"  # bounded, or it takes for ever
    r"(?:;base64,(?:[A-Za-z0-9+/=_-]|%[0-9A-Fa-f]{2}|\\[nr]){40,}|,[^\s\"'()<>\\]{200,})"
)
RUN = re.compile(r"(?<![A-Za-z0-9+/_-])(?:[A-Za-z0-9+/_-]|\\[nr]|%2[BbFf])" rf"{{{LEAST},}}={{0,2}}")
ENCODED_LINE = re.compile(r"[>|\s\"'(]*([A-Za-z0-9+/_-]" rf"{{{LEAST_IN_BLOCK},}}+" r"={0,2})[\"'),+;\\\s]*")
LAST_LINE = re.compile(r"[>|\s\"'(]*([A-Za-z0-9+/_-]{1,80}={0,2})[\"'),+;\\\s]*")
CHANGE = re.compile(r"(?<=[a-z])(?=[A-Z0-9])|(?<=[A-Z])(?=[a-z0-9])|(?<=[0-9])(?=[A-Za-z])")
LETTER_OR_DIGIT = re.compile(r"[A-Za-z0-9]")
UUENCODED = re.compile(r"^begin [0-7]{3,4} .+\n(?:[!-`][ -`]{0,61}\n)+[` ]?\n?end$", re.MULTILINE)
YENC = re.compile(r"^=ybegin (?:(?!^=ybegin ).)*?^=yend\b.*?$", re.MULTILINE | re.DOTALL)
GIT_BINARY = re.compile(r"^GIT binary patch\n(?:\S.*\n)+(?:\n(?:literal|delta) \d+\n(?:\S+\n)+)?", re.MULTILINE)
DUMP_LINE = re.compile(
    r"[ \t]*(?:0x[0-9a-fA-F]+:?|[0-9a-fA-F]{7,16}:?|[0-9a-fA-F]{4}:)[ \t]+"
    r"(?:[0-9a-fA-F]{2,8}[ \t]+){3,}[0-9a-fA-F]{2}.*"
    r"|[ \t{(\[]*(?:0x[0-9a-fA-F]{1,16}[uUlL]*,?[ \t]*+){6,}[ \t})\];]*"
)
NUMBERS_LINE = re.compile(r"(?:[\W\d_]*[^\W\d_]{1,3}(?![^\W\d_])){0,2}[\W\d_]*")
OF_NUMBERS = r"\s.,;:+()\[\]{}MmLlHhVvCcSsQqTtAaZzEe\"'|-"
NUMBERS_RUN = re.compile(rf"(?<![\d{OF_NUMBERS}])[{OF_NUMBERS}]*+(\d[\d{OF_NUMBERS}]{{{LONG_LINE},}})")
DIGITS = "0123456789"
BEHIND_NUMBERS = " \n\t" + "MmLlHhVvCcSsQqTtAaZzEe\"',;:+()[]{}|"
SIGN = re.compile(r"[{}()\[\];:=<>\"'&|!?]")
FOREIGN = re.compile(r"[^\x00-\x7f]")
COMMAND = re.compile(r"\\[A-Za-z]{2}")
SPACE = re.compile(r"\s")
GENERATED = re.compile(
    r"^[ \t]*(?://|#|/?\*|--|;|<!--|%|\"\"\"|').*"
    r"(?:@generated\b|(?:generated|code generator)\b[^\n]{0,200}\bdo not (?:edit|modify)|"
    r"do not (?:edit|modify)\b[^\n]{0,200}\b(?:generated|regenerate))",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class Cleaned:
    """The text of a person, and how many characters were left out, by reason."""

    text: str
    left_out: Mapping[str, int] = field(default_factory=lambda: NOTHING)


def whole_file(text: str, name: str) -> str:
    """Why a whole file of that name is no person's text; empty if it may be one's."""
    if name.lower() in LOCK_FILES:
        return "lock file"
    if name.lower().endswith(MINIFIED):
        return "minified code"
    return "generated file" if GENERATED.search(text[:BEGINNING]) else ""


def cleaned(text: str, *, keep_secrets: bool = False) -> Cleaned:
    """The text without the runs in it that are no text, and without lines that look like secrets.

    Every text that comes out of a file passes here, so that no secret is in any document, whatever the format.
    """
    detectors = DETECTORS if len(text) >= LEAST else ()
    if not keep_secrets:
        detectors = (*detectors, (SECRET, secrets))
    found = sorted((*span, reason) for reason, find in detectors for span in find(text))
    if not found:
        return Cleaned(text)
    kept, left_out, end = [], dict[str, int](), 0
    for begin, stop, reason in found:
        if stop > end:
            kept.append(text[end : max(begin, end)])
            left_out[reason] = left_out.get(reason, 0) + stop - max(begin, end)
            end = stop
    return Cleaned("".join([*kept, text[end:]]), left_out)


def keys(text: str) -> Iterator[Span]:
    """PEM and PGP blocks; if prose stands between the two lines, it is a text about them."""
    for match in KEY.finditer(text):
        body = KEY_HEADER.sub("", match[2]).strip()
        if body.count(" ") <= MOST_SPACES * len(body):
            yield match.span()


def data_uris(text: str) -> Iterator[Span]:
    """Files written into a link."""
    return (match.span() for match in DATA_URI.finditer(text))


def encoded_data(text: str) -> Iterator[Span]:
    """Base64 and hexadecimal digits: runs inside a line, and blocks of whole lines as in mails."""
    longest = max(map(len, text.split()), default=0)
    if longest >= LEAST:
        yield from _encoded_runs(text)
    if longest >= LEAST_IN_BLOCK:
        yield from _encoded_blocks(text)


def _encoded_runs(text: str) -> Iterator[Span]:
    for match in RUN.finditer(text):
        run = match[0]
        least = LEAST_CHANGES_IN_HUGE if len(run) >= HUGE_RUN else LEAST_CHANGES
        if is_mixed(run, least):
            yield match.span()


def _encoded_blocks(text: str) -> Iterator[Span]:
    for begin, lines in _consecutive(text, 2, lambda line: ENCODED_LINE.fullmatch(line) is not None):
        runs = [match[1] for line in lines if (match := ENCODED_LINE.fullmatch(line))]
        mixed = sum(is_mixed(run, LEAST_CHANGES) for run in runs)
        alike = len({len(run) for run in runs[:-1]}) <= 1
        size = sum(len(line) + 1 for line in lines)
        if mixed >= len(runs) * (0.1 if alike else 0.5):
            after = text[begin + size : begin + size + 100].partition("\n")[0]
            last = LAST_LINE.fullmatch(after)
            is_end = last is not None and (last[1].endswith("=") or is_mixed(last[1], LEAST_CHANGES))
            yield begin, min(len(text), begin + size + (len(after) if is_end else 0))


def is_mixed(run: str, least: float) -> bool:
    """Whether capitals, small letters and digits take turns as they do in encoded data, and in no language."""
    letters = len(LETTER_OR_DIGIT.findall(run))
    return letters >= LEAST_LETTERS * len(run) and len(CHANGE.findall(run)) >= least * letters


def transfer_encodings(text: str) -> Iterator[Span]:
    """Uuencode, yEnc, and the binary patches of git."""
    for pattern, mark in ((UUENCODED, "\nend"), (YENC, "\n=yend "), (GIT_BINARY, "GIT binary patch")):
        if mark in text:
            yield from (match.span() for match in pattern.finditer(text))


def hex_dumps(text: str) -> Iterator[Span]:
    """What xxd, hexdump, od and debuggers print, and arrays of bytes in code."""
    for begin, lines in _consecutive(text, DUMP_LINES, lambda line: DUMP_LINE.fullmatch(line) is not None):
        yield _whole(text, begin, lines)


def minified(text: str) -> Iterator[Span]:
    """Lines of code or markup without the spaces that people write."""
    for begin, lines in _consecutive(text, 1, lambda line: len(line) >= LONG_LINE and is_minified(line)):
        yield _whole(text, begin, lines)


def is_minified(line: str) -> bool:
    """Full of the signs of code and nearly without spaces; in a language that has none, it is full of letters."""
    return (
        len(SPACE.findall(line)) <= MOST_SPACES * len(line)
        and len(SIGN.findall(line)) >= LEAST_SIGNS * len(line)
        and len(FOREIGN.findall(line)) <= MOST_FOREIGN * len(line)
        and len(COMMAND.findall(line)) <= MOST_COMMANDS * len(line)
    )


def numbers(text: str) -> Iterator[Span]:
    """Long tables of numbers, drawings and coordinates."""
    if sum(map(text.count, DIGITS)) < LEAST_DIGITS * LONG_LINE / 2:
        return
    for begin, lines in _consecutive(text, TABLE_LINES, is_of_numbers):
        span = _whole(text, begin, lines)
        if span[1] - span[0] >= TABLE_CHARACTERS:
            yield span
    for match in NUMBERS_RUN.finditer(text):
        run = match[1].rstrip(BEHIND_NUMBERS)
        if len(run) >= (TABLE_CHARACTERS if "\n" in run else LONG_LINE) and _digits(run) >= LEAST_DIGITS:
            yield match.start(1), match.start(1) + len(run)


def _whole(text: str, begin: int, lines: list[str]) -> Span:
    """From the beginning of the first line to the end of the last, its line break included."""
    return begin, min(len(text), begin + sum(len(line) + 1 for line in lines))


def is_of_numbers(line: str) -> bool:
    """A line of digits, with the signs and two short words that go with them."""
    return line[:1] != "" and NUMBERS_LINE.fullmatch(line) is not None and _digits(line) >= LEAST_DIGITS


def _digits(text: str) -> float:
    """Of all that is no white space; 0 if there is nothing else."""
    filled = "".join(text.split())
    return sum(map(filled.count, DIGITS)) / max(1, len(filled))


def _consecutive(text: str, least: int, wanted: Callable[[str], bool]) -> Iterator[tuple[int, list[str]]]:
    """Where each run of at least so many such lines begins, and the lines without their ends.

    Only every `least`-th line is looked at, and those around one that is wanted: no run is missed by that.
    """
    lines = text.split("\n")
    runs, after, at = [], 0, least - 1
    while at < len(lines):
        if not wanted(lines[at]):
            at += least
            continue
        first = next((i + 1 for i in range(at - 1, after - 1, -1) if not wanted(lines[i])), after)
        after = next((i for i in range(at + 1, len(lines)) if not wanted(lines[i])), len(lines))
        if after - first >= least:
            runs.append((first, after))
        at = after + least
    if runs:
        begins = list(accumulate((len(line) + 1 for line in lines), initial=0))
        yield from ((begins[first], lines[first:after]) for first, after in runs)


DETECTORS: tuple[tuple[str, Callable[[str], Iterator[Span]]], ...] = (
    ("key or certificate", keys),
    ("data URI", data_uris),
    ("base64 or hexadecimal", encoded_data),
    ("uuencode or yEnc", transfer_encodings),
    ("hex dump", hex_dumps),
    ("minified code", minified),
    ("numbers", numbers),
)
"""Reason and detector; of spans that overlap, the one that begins first has its reason counted."""
