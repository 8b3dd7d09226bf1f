"""In which encoding a text that is not Unicode was written: weighed for each file, and decided by folders.

`weigh` reads a sample of the bytes in every encoding that it knows, and asks how likely each language is to be written
so: by its letters, by where capitals and signs stand, by its commonest words, for East Asia by its commonest
characters (tables: `letters`). Likelihoods of the same bytes can be compared, in nats, between one alphabet and
another and even with two bytes a character; a guess is as sure as the lead of the best text over the best other text.
Encodings that give the same text are no rivals: most Western files read alike in half a dozen.

One line says little: a word with one letter beyond ASCII may be Czech or French. But the files of a folder mostly come
from one machine, so what the others weigh is one more witness, of bounded weight: it settles what a file leaves open,
and outvotes no file that is clear. `settle` asks the folder, then the folder around it. Both are functions of content
and paths alone: neither the order of reading nor an earlier answer changes anything.

The model is naive: characters and steps from one to the next are taken as independent, as in a naive Bayes classifier,
and all its nats are written by hand below. Rough is enough, since a wrong reading is seldom a little wrong.

    bytes --weigh--> Evidence (candidates with nats) --alone | settle--> an encoding, or None: nobody can tell

None is an answer: the file is left out and told, and a person may name its encoding. A wrong one would be trained on.
"""

from __future__ import annotations

import functools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from p2pfinetune.data.letters import (
    ALPHABETS,
    DRAWS,
    EAST_ASIAN,
    HALF_WIDTH,
    SHAPED,
    SIGNS,
    USUAL_SIGNS,
    Alphabet,
    Characters,
)

SAMPLE_BYTES = 32_768  # of lines that hold other than ASCII; more changes no guess and costs time
PIECE = 1024  # bytes looked at together while such lines are sought
SURE = 3.5  # nats between the best text and the best other one: one mistake in 30 by the model, fewer as measured
WITNESS = 12.0  # nats that all other files of a folder weigh at most, and each of them
KEPT = 16  # candidates of a file
SHOWN = 3  # of them to people
MAX_BAD = 0.25  # of high characters: more that fit no language, and it is none of these encodings
ALIKE = 0.02  # of high bytes: a text that differs in fewer characters is no mojibake of the other
REPLACEMENT = "\ufffd"  # stands for what could not be read

FOREIGN, SYMBOL, CONTROL, DRAWN = -8.0, -9.0, -13.0, -7.0  # nats of a letter of another language, and so on
ERROR, ASCII, CAPITAL, RUN, SINGLE = -12.0, -3.0, -2.5, 4.0, -4.0
SIGN, USUAL_SIGN = -5.5, -3.6  # of any that stands between words, and of a usual one in Latin script
RARER = -3.0  # nats before anything is read: encodings of machines of long ago, and of few
COMMON = frozenset(
    {"cp1252", "cp1250", "iso8859-2", "cp1254", "cp1251", "koi8-r", "cp1253"}
    | {"cp932", "euc_jp", "gb18030", "big5hkscs", "cp949"}
)
HOME = {"cp1252": 2.0}  # what most of the text that is not Unicode is in
WORD, HIGH_WORD, MOST_WORDS = 1.5, 3.0, 14.0  # nats of a common word, of one with high bytes, and of all of them

OTHER, ASCII_LOW, ASCII_UP, LOW, UP, FAR_LOW, FAR_UP, FAR, MARK, ODD = range(10)
NEAR = (ASCII_LOW, ASCII_UP, LOW, UP)  # letters of Latin script
AFAR = (FAR_LOW, FAR_UP, FAR)
SINGLES = re.compile("(?<![\uff61-\uff9f])[\uff61-\uff9f](?![\uff61-\uff9f])")  # half-width katakana stands in words
TOKEN = re.compile(rb"[A-Za-z\x80-\xff]+")
AnyPath = TypeVar("AnyPath", bound=PurePath)
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class EncodingCandidate:
    """One encoding for one file, and how likely it is: a sum of logarithms, comparable among those of one file."""

    encoding: str
    nats: float
    """By the text alone, behind the best of this file: zero or less, in sixteenths, so that sums know no order."""
    text: int
    """Which text it gives, as a number among this file's: equal if hardly a character differs."""
    fits: bool = True
    """Whether some language has these letters. One that does not fit is never chosen, but still a rival."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one file says of its encoding: the best first, and none if nothing fits."""

    candidates: tuple[EncodingCandidate, ...]

    def guesses(self, chosen: str = "") -> tuple[str, ...]:
        """What people are shown: the encoding that was chosen, then the first of each text that is nearly as likely."""
        texts: dict[int, str] = {}
        for candidate in self.candidates:
            if candidate.fits and candidate.nats + prior(candidate.encoding) > -WITNESS:
                texts.setdefault(candidate.text, candidate.encoding)
        return tuple(dict.fromkeys([*([chosen] if chosen else []), *list(texts.values())[:SHOWN]]))


def weigh(data: bytes) -> Evidence:
    """The evidence of bytes that are no Unicode; takes milliseconds however many they are."""
    sample = sample_of(data)
    scores = {**_by_letters(sample), **_by_characters(sample)}
    best = max((score.nats for score in scores.values()), default=0.0)
    behind = {name: -round((best - score.nats) * 16) / 16 for name, score in scores.items()}
    ranked = sorted(behind, key=lambda name: (-behind[name] - prior(name), PREFERENCE[name]))[:KEPT]
    texts = _texts(ranked, sample)
    return Evidence(
        tuple(
            EncodingCandidate(name, behind[name], text, scores[name].fits)
            for name, text in zip(ranked, texts, strict=True)
        )
    )


def sample_of(data: bytes) -> bytes:
    """Lines that hold other than ASCII, as many as are needed."""
    pieces: list[bytes] = []
    at = taken = 0
    while at < len(data) and taken < SAMPLE_BYTES:
        end = data.find(b"\n", at + PIECE, at + 2 * PIECE) + 1 or min(at + 2 * PIECE, len(data))
        if not (piece := data[at:end]).isascii():
            pieces.append(piece)
            taken += end - at
        at = end
    return b"".join(pieces)


def _texts(encodings: Sequence[str], sample: bytes) -> list[int]:
    """For each encoding the number of its text; those of several bytes a character are never another's."""
    rows = _rows()
    counts = np.bincount(np.frombuffer(sample, np.uint8), minlength=256)[128:]
    found: list[tuple[str, ...] | None] = []
    numbers: list[int] = []
    for encoding in encodings:
        signs = rows.signs.get(encoding)
        number = next((number for number, one in enumerate(found) if _alike(one, signs, counts)), len(found))
        if number == len(found):
            found.append(signs)
        numbers.append(number)
    return numbers


def _alike(one: Sequence[str] | None, other: Sequence[str] | None, counts: NDArray[np.intp]) -> bool:
    if one is None or other is None:
        return False
    differs = sum(int(count) for count, first, second in zip(counts, one, other, strict=True) if first != second)
    return differs <= ALIKE * int(counts.sum())


# Encodings of one byte a letter


@dataclass(frozen=True, slots=True)
class _Rows:
    """Every pair of an encoding and a language, by row; and every encoding once."""

    encodings: tuple[str, ...]
    of: tuple[str, ...]
    """The encoding of each row."""
    nats: Floats
    """[row, byte - 128]."""
    before: Floats
    """[row]: nats of the language before anything is read."""
    bad: Floats
    """[row, byte - 128]: whether the language has no such letter."""
    classes: NDArray[np.intp]
    """[encoding, byte]."""
    signs: Mapping[str, tuple[str, ...]]
    """The characters of the high bytes in each encoding."""
    words: Mapping[bytes, tuple[tuple[int, float], ...]]
    """Rows in which a token is a common word, and what that weighs."""


class _Score(NamedTuple):
    nats: float
    fits: bool


def _by_letters(sample: bytes) -> dict[str, _Score]:
    """The likelihood of each encoding in its best language."""
    rows = _rows()
    bytes_ = np.frombuffer(sample, np.uint8)
    counts = np.bincount(bytes_, minlength=256)[128:].astype(np.float64)
    total = counts.sum()
    nats = rows.nats @ counts + rows.before + _words(sample, rows)
    bad = rows.bad @ counts
    steps, bad_steps = _steps(bytes_, rows)
    found: dict[str, _Score] = {}
    for row, encoding in enumerate(rows.of):
        place = rows.encodings.index(encoding)
        fits = bool(bad[row] + bad_steps[place] <= MAX_BAD * total)
        score = _Score(float(nats[row] + steps[place]), fits)
        found[encoding] = max(score, found.get(encoding, score))
    return found


def prior(encoding: str) -> float:
    """Nats that an encoding has before anything is read."""
    return HOME.get(encoding, 0.0) + (0.0 if encoding in COMMON else RARER)


def _steps(bytes_: NDArray[np.uint8], rows: _Rows) -> tuple[Floats, Floats]:
    """What neighbouring bytes say in each encoding, of which one at least is high."""
    pairs = bytes_[:-1].astype(np.intp) * 256 + bytes_[1:]
    found, counts = np.unique(pairs[(bytes_[:-1] > 127) | (bytes_[1:] > 127)], return_counts=True)
    first, second = rows.classes[:, found // 256], rows.classes[:, found % 256]
    each = _steps_table()[first, second]
    runs = (first == ODD) & (found // 256 == found % 256)  # lines of tables, drawn with signs
    return each @ counts + runs @ counts * RUN, (each <= -2.5) @ counts / 2.0


def _words(sample: bytes, rows: _Rows) -> Floats:
    weights = np.zeros(len(rows.of))
    for token, count in Counter(TOKEN.findall(sample.lower())).items():
        for row, weight in rows.words.get(token, ()):
            weights[row] += weight * min(count, 4)
    return np.minimum(weights, MOST_WORDS)


@functools.cache
def _steps_table() -> Floats:
    """Nats of one class of bytes after another."""
    table = np.zeros((10, 10))
    table[OTHER, LOW], table[OTHER, UP], table[LOW, OTHER], table[UP, OTHER] = -1.0, -0.5, -0.5, -2.5
    table[FAR_UP, OTHER] = -1.5
    table[ODD, ODD] = -1.5
    for first in NEAR:
        for second in AFAR:
            table[first, second] = table[second, first] = -5.0  # two scripts in one word
        table[first, ODD] = table[ODD, first] = -3.0
        table[first, MARK] = table[MARK, first] = -0.5
    for first in AFAR:
        table[first, ODD] = table[ODD, first] = -3.0
        table[first, AFAR] = -0.2
    table[MARK, FAR_LOW] = -2.0  # a capital stands at the beginning, where other encodings have signs
    for first, second in ((LOW, LOW), (LOW, UP), (UP, LOW), (UP, UP)):
        table[first, second] = -1.5  # in Latin script most letters are ASCII
    for low, up in ((ASCII_LOW, UP), (LOW, ASCII_UP), (LOW, UP), (FAR_LOW, FAR_UP)):
        table[low, up] -= 4.0  # a capital inside a word
    return table


@functools.cache
def _rows() -> _Rows:
    pairs = [(encoding, language) for encoding, languages in ALPHABETS.items() for language in languages.values()]
    high = {encoding: [_character(byte, encoding) for byte in range(128, 256)] for encoding in ALPHABETS}
    nats = [[_nats(sign, encoding, language) for sign in high[encoding]] for encoding, language in pairs]
    words: dict[bytes, list[tuple[int, float]]] = {}
    for row, (encoding, language) in enumerate(pairs):
        for word in sorted(language.words):
            token = word.encode(encoding, errors="ignore")
            if len(token) == len(word):
                words.setdefault(token, []).append((row, WORD if token.isascii() else HIGH_WORD))
    return _Rows(
        encodings=tuple(ALPHABETS),
        of=tuple(encoding for encoding, _ in pairs),
        nats=np.array(nats),
        before=np.array([language.before for _, language in pairs]),
        bad=(np.array(nats) <= FOREIGN).astype(np.float64),
        classes=np.array([[*(_class(chr(byte)) for byte in range(128)), *map(_class, high[name])] for name in high]),
        signs={name: tuple(signs) for name, signs in high.items()},
        words={token: tuple(found) for token, found in words.items()},
    )


def _character(byte: int, encoding: str) -> str:
    return bytes([byte]).decode(encoding, errors="replace")


def _nats(sign: str, encoding: str, language: Alphabet) -> float:
    """The logarithm of the share that a character has among all beyond ASCII in a language."""
    if sign.lower() in language.letters:
        among = len(language.letters)
        rank = language.letters.index(sign.lower())
        zipf = 1.0 / among if language.flat else 1.0 / (rank + 3) / sum(1.0 / (other + 3) for other in range(among))
        return math.log(0.9 * zipf) + (CAPITAL if sign != sign.lower() else 0.0)
    if sign in SIGNS:
        return USUAL_SIGN if language.latin and sign in USUAL_SIGNS else SIGN
    if sign == REPLACEMENT or unicodedata.category(sign) in {"Cc", "Co", "Cn"}:
        return CONTROL
    if encoding in DRAWS and "\u2500" <= sign <= "\u25a0":
        return DRAWN
    return FOREIGN if sign.isalpha() else SYMBOL


def _class(sign: str) -> int:
    if sign.isascii():
        return ASCII_LOW if sign.islower() else ASCII_UP if sign.isupper() else OTHER
    if sign in SIGNS or sign in "ªº":
        return MARK
    if unicodedata.category(sign) in {"Mn", "Mc"}:
        return FAR
    if not sign.isalpha():
        return OTHER if sign == "\xa0" else ODD
    if sign < "\u0250":
        return LOW if sign == sign.lower() else UP
    return FAR_LOW if sign.islower() else FAR_UP if sign.isupper() else FAR


# Encodings of several bytes a character


def _by_characters(sample: bytes) -> dict[str, _Score]:
    found: dict[str, _Score] = {}
    for encoding, languages in EAST_ASIAN.items():
        text = sample.decode(encoding, errors="replace")
        counts = Counter(sign for sign in text if not sign.isascii())
        total, wrong = counts.total(), counts.pop(REPLACEMENT, 0)
        if wrong > 1 + 0.02 * total:
            continue
        taken = sum(byte < 128 for byte in sample) - sum(sign.isascii() for sign in text)  # as second bytes
        for language in languages.values():
            each = {sign: _nats_of(sign, language) for sign in counts}
            bad = wrong + sum(count for sign, count in counts.items() if each[sign] < -10.0)
            signs = sum(each[sign] * count for sign, count in counts.items())
            singles = len(SINGLES.findall(text))
            nats = signs + wrong * ERROR + singles * SINGLE - taken * ASCII
            found[encoding] = _Score(nats, bad <= MAX_BAD * total)
    return found


@functools.lru_cache(maxsize=16_384)
def _nats_of(sign: str, language: Characters) -> float:
    rank = language.common.find(sign)
    if rank >= 0:
        return math.log(0.6 / (rank + 20) / math.log(1 + len(language.common) / 20))
    if sign in SHAPED:
        return -3.5
    if sign in HALF_WIDTH:
        return -5.0
    code = sign.encode(language.standard, errors="ignore")
    if len(code) == 2 and code[0] in language.usual:
        return -9.0
    return -9.5 if len(code) == 2 and code[0] < language.usual.start else -12.5  # signs and letters, or rarities


# Files of a folder

PREFERENCE = {name: place for place, name in enumerate([*ALPHABETS, *EAST_ASIAN])}


def alone(evidence: Evidence) -> str | None:
    """The encoding that a file by itself is sure of."""
    return _decided(evidence, {})


def settle(files: Mapping[AnyPath, Evidence]) -> dict[AnyPath, str | None]:
    """The encoding of each file, by its own evidence and that of its neighbours; None for one that stays open."""
    sums: dict[PurePath, Counter[str]] = {}
    for path, evidence in files.items():
        for folder in path.parents:
            _add(sums.setdefault(folder, Counter()), evidence, 1)
    return {path: _settled(path, evidence, sums) for path, evidence in files.items()}


def _settled(path: PurePath, evidence: Evidence, sums: Mapping[PurePath, Counter[str]]) -> str | None:
    found = _decided(evidence, {})
    for folder in path.parents:
        others = sums[folder].copy()
        _add(others, evidence, -1)
        if others[FILES]:
            found = _decided(evidence, others)
            if found is not None:
                return found
    return found


FILES = ""  # counted beside the encodings


def _add(sums: Counter[str], evidence: Evidence, sign: int) -> None:
    """Each encoding's lead over what a file says of one that it does not name."""
    if evidence.candidates:
        sums[FILES] += sign
        for candidate in evidence.candidates:
            sums[candidate.encoding] += sign * max(0, round(16 * (WITNESS + candidate.nats)))


def _decided(evidence: Evidence, others: Mapping[str, int]) -> str | None:
    """The best candidate if its text leads by enough over every other text."""
    most = max((others.get(candidate.encoding, 0) for candidate in evidence.candidates), default=0)
    ranked = sorted(
        evidence.candidates,
        key=lambda one: (-_total(one, others, most), PREFERENCE[one.encoding]),
    )
    if not ranked or not ranked[0].fits:
        return None
    best = ranked[0]
    rival = next((one for one in ranked if one.text != best.text), None)
    lead = math.inf if rival is None else _total(best, others, most) - _total(rival, others, most)
    return best.encoding if lead >= SURE else None


def _total(candidate: EncodingCandidate, others: Mapping[str, int], most: int) -> float:
    return prior(candidate.encoding) + candidate.nats + max(-WITNESS, (others.get(candidate.encoding, 0) - most) / 16)
