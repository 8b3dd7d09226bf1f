r"""Secrets that say by their own shape what they are, whatever stands beside them. Pure.

Whoever gives tokens out marks them, so that scanners find them (GitHub's, 2021: six bits of prefix and a checksum). The
patterns are those of the makers' documents and of the collections of gitleaks and detect-secrets, each with an upper
bound. Of old Bitcoin keys, which have no mark, the checksum is worked out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence

Span = tuple[int, int]

SHAPES: tuple[tuple[Sequence[str], re.Pattern[str]], ...] = (
    (("AKIA", "ASIA", "ABIA", "ACCA"), re.compile(r"\A(?:(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16})")),
    (("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), re.compile(r"\A(?:gh[pousr]_[A-Za-z0-9]{30,255})")),
    (("github_pat_",), re.compile(r"\A(?:github_pat_[A-Za-z0-9_]{22,255})")),
    (
        ("glpat-", "gldt-", "glrt-", "glptt-", "glcbt-", "glft-", "glsoat-"),
        re.compile(r"\A(?:gl(?:pat|dt|rt|ptt|cbt|ft|soat)-[\w.-]{20,255})"),
    ),
    (("xox", "xapp-"), re.compile(r"\A(?:(?:xox[abcdeoprs]|xapp)-[A-Za-z0-9-]{10,255})")),
    (
        ("hooks.slack.com/",),
        re.compile(r"\A(?:hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/]{20,255})"),
    ),
    (("/api/webhooks/",), re.compile(r"\A(?:(?:discord|discordapp)\.com/api/webhooks/\d{5,30}/[\w-]{30,255})")),
    (("sk-",), re.compile(r"\A(?:sk-(?=[A-Za-z_-]{0,200}\d)[\w-]{20,255})")),
    (("AIza",), re.compile(r"\A(?:AIza[\w-]{35})")),
    (("ya29.", "GOCSPX-"), re.compile(r"\A(?:(?:ya29\.[\w-]{20,255}|GOCSPX-[\w-]{20,60}))")),
    (
        ("k_live_", "k_test_", "whsec_"),
        re.compile(r"\A(?:(?:[srp]k_(?:live|test)_[A-Za-z0-9]{16,255}|whsec_[A-Za-z0-9+/]{24,255}))"),
    ),
    (("npm_",), re.compile(r"\A(?:npm_[A-Za-z0-9]{36})")),
    (("pypi-",), re.compile(r"\A(?:pypi-[\w-]{50,255})")),
    (("hf_",), re.compile(r"\A(?:hf_[A-Za-z0-9]{30,60})")),
    (
        ("dckr_", "dop_v1_", "doo_v1_", "dor_v1_"),
        re.compile(r"\A(?:(?:dckr_(?:pat|oat)_[\w-]{20,60}|do[por]_v1_[0-9a-f]{64}))"),
    ),
    (("SG.",), re.compile(r"\A(?:SG\.[\w-]{16,32}\.[\w-]{32,64})")),
    (("shp",), re.compile(r"\A(?:shp(?:at|ca|pa|ss|tka)_[0-9a-fA-F]{32})")),
    (
        ("gsk_", "xai-", "r8_"),
        re.compile(r"\A(?:(?:gsk_[A-Za-z0-9]{40,60}|xai-[A-Za-z0-9]{60,100}|r8_[A-Za-z0-9]{37}))"),
    ),
    (("hvs.", "hvb."), re.compile(r"\A(?:hv[sb]\.[\w-]{24,255})")),
    (
        ("tskey-", "PMAK-", "lin_api_", "ntn_"),
        re.compile(r"\A(?:(?:tskey-[a-z]{3,12}-[\w-]{20,100}|PMAK-[0-9a-f-]{50,70}|(?:lin_api|ntn)_\w{32,64}))"),
    ),
    (("ATATT",), re.compile(r"\A(?:ATATT3[\w=-]{100,255})")),
    (("AGE-SECRET-KEY-",), re.compile(r"\A(?:AGE-SECRET-KEY-(?:PQ-)?1[0-9A-Z]{50,80})")),
    (("eyJ",), re.compile(r"\A(?:eyJ[\w-]{10,2000}+\.eyJ[\w-]{10,4000}+\.[\w-]{10,2000}+)")),
    ((":AA",), re.compile(r"\A(?:\d{7,12}:AA[\w-]{32,34})")),
    (("prv",), re.compile(r"\A(?:[xyztuv]prv[1-9A-HJ-NP-Za-km-z]{107,108})")),
    (("$",), re.compile(r"\A(?:\$(?:1|2[abxy]?|5|6|7|y|gy|apr1|argon2(?:id?|d)|scrypt)\$[\w./+$,=-]{20,255})")),
)
OF_WORDS: tuple[tuple[Sequence[str], re.Pattern[str]], ...] = (
    (
        ("curl", "wget"),
        re.compile(r"\A(?:(?:curl|wget)\b[^\n]{0,200}? (?:-u|--user) ?['\"]?[^\s:'\"$<{]{1,100}:[^\s'\"$<{]{3,100})"),
    ),
    (("sshpass",), re.compile(r"\A(?:sshpass -p ?[^\s$<{]{3,100})")),
    (("earer ",), re.compile(r"\A(?:[Bb]earer (?=[A-Za-z_.+/=~-]{0,200}\d)[\w.+/=~-]{20,2000}+)")),
    (
        ("uthorization",),
        re.compile(r"\A(?:[Aa]uthorization['\"]{0,2}[:=, ]{1,4}['\"]?(?:Basic|Token|Digest) [\w.+/=~-]{8,2000})"),
    ),
    (
        ("machine ",),
        re.compile(
            r"\A(?:machine[ \t]{1,9}\S{1,100}[ \t]{1,9}login[ \t]{1,9}\S{1,100}[ \t]{1,9}password[ \t]{1,9}\S{1,100})"
        ),
    ),
    (("IDENTIFIED BY",), re.compile(r"\A(?:IDENTIFIED BY (?:PASSWORD )?['\"][^\n'\"<${]{3,100}['\"])")),
    (("identified by",), re.compile(r"\A(?:identified by (?:password )?['\"][^\n'\"<${]{3,100}['\"])")),
)
MOST_BEFORE = {"k_live_": 1, "k_test_": 1, "prv": 1, "earer ": 1, "uthorization": 1, ":AA": 12, "/api/webhooks/": 14}
"""Characters of the pattern that stand before its mark, none if nothing is said."""
LONGEST = 8100  # characters of a token, as the patterns have it
SHORTEST = 16  # characters of a word that is a token: words that people say are mostly shorter
"""One of what has to stand in a text, so that the pattern is asked at all, and the pattern."""
WIF = re.compile(r"(?<![A-Za-z0-9])[5KLc9][1-9A-HJ-NP-Za-km-z]{50,51}(?![A-Za-z0-9])")
BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
LONGEST_KEY = 40  # bytes that 52 letters of base 58 can hold
IN_URL = re.compile(r"://[^\s/:@'\"<>]{0,100}:([^\s/@'\"<>]{1,200})@(?=[\w\[])")
NO_SECRET = re.compile(
    r"(?:[$%{*.x]|\.\.\.|[\w-]{0,20}pass(?:word|wd)?|pwd|pw|secret|token|key|port\b).{0,200}", re.IGNORECASE
)
PGPASS = re.compile(
    r"^[\w.*/-]{1,200}:(?:\d{2,5}|\*):(?=[\w.-]{0,60}[A-Za-z*])[\w.*-]{1,100}:(?=[\w.-]{0,60}[A-Za-z*])[\w.*@-]{1,100}:"
    r"(\S{4,200})[ \t\r]*(?=\n|\Z)",
    re.MULTILINE,
)


def shaped(text: str) -> Iterator[Span]:
    """Tokens, keys and passwords in addresses; they may overlap."""
    long = "\n".join(word for word in text.split() if len(word) >= SHORTEST)
    yield from _marked(text, [shape for shape in SHAPES if any(mark in long for mark in shape[0])])
    yield from _marked(text, OF_WORDS)
    if WIF.search(long):
        yield from (match.span() for match in WIF.finditer(text) if is_base58check(match[0]))
    for mark, pattern in (("://", IN_URL), (":", PGPASS)):
        if mark in text:
            yield from (match.span(1) for match in pattern.finditer(text) if not NO_SECRET.fullmatch(match[1]))


def _marked(text: str, shapes: Iterable[tuple[Sequence[str], re.Pattern[str]]]) -> Iterator[Span]:
    """What a pattern matches at one of its marks: those are found many times quicker than any pattern."""
    for marks, pattern in shapes:
        for mark in marks:
            at, done = text.find(mark), 0
            while at >= 0:
                begins = range(at, max(done, at - MOST_BEFORE.get(mark, 0)) - 1, -1)
                end = next((end for begin in begins if (end := _end_of(pattern, text, begin))), 0)
                if end:
                    yield at, end
                done = end or done
                at = text.find(mark, max(done, at + len(mark)))


def is_base58check(text: str) -> bool:
    """Whether the last four bytes are the checksum of the others: of words one in four thousand million passes."""
    number = 0
    for character in text:
        number = number * len(BASE58) + BASE58.index(character)
    data = number.to_bytes(LONGEST_KEY, "big").lstrip(b"\0")
    return hashlib.sha256(hashlib.sha256(data[:-4]).digest()).digest()[:4] == data[-4:]


def _end_of(pattern: re.Pattern[str], text: str, begin: int) -> int:
    """Where a token ends that begins there; 0 if none does: it stands in no longer word."""
    if is_of_word(text[max(0, begin - 1) : begin]):
        return 0
    found = pattern.search(text[begin : begin + LONGEST])
    end = begin + found.end() if found else 0
    return 0 if is_of_word(text[end : end + 1].replace("_", "")) else end


def is_of_word(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())
