r"""Find what stands in a text and opens something: passwords, tokens, private keys. Pure.

An adapter is published, and what was learnt by heart can be asked out of it, so a line that looks like a secret is left
out; of a long line, a paragraph perhaps, the secret alone. To leave out too much costs a line, to leave out too little
costs a password: in doubt it goes. What is left out is counted and told, and `--keep-secrets` has it.

Three signs. Shape: tokens that say by themselves what they are (`secret_shapes`) go wherever they stand. Name: what
follows `password:` in any of twenty languages goes unless it is a placeholder, a type or an expression of code; what
follows `token =` or `secret:`, words that people use for other things too, goes if it looks drawn by lot. Place: cells
under such a heading, a file that holds nothing else.

Numbers of telephones, cards and accounts, and addresses, are none: they open nothing by themselves, are as much a part
of letters as names are, and have no end. A password without a name beside it is a word, and nobody can tell it.

As in `machine_text`, no pattern looks at a place more than a bounded number of times, whatever the text.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from p2pfinetune.data.secret_shapes import shaped

Span = tuple[int, int]

REASON = "password, token or key"
WHOLE_LINE = 300  # characters; of a longer line the secret alone is left out
LEAST_RANDOM = 12  # characters of a value that has nothing but its look to say that it is a secret
LEAST_CLAIMED = 6  # likewise, if a password is said to be it in a sentence
LEAST_NAMED = 4  # likewise, behind the name and a colon
LEAST_BITS = 2.5  # of entropy in each of its characters; a word of that length with a number behind it has less
LEAST_RISES = 0.17  # of the places; namesInThisManner have 0.12, letters drawn by lot 0.25
MOST_WORDS = 8  # of a passphrase
MOST_CELLS = 20  # of a table
MOST_IN_CELL = 40  # characters of a heading

FILES = re.compile(
    r"\.env(\.[\w.-]+)?|env|[\w.-]+\.env|[._]netrc|\.?pgpass(\.conf)?|\.?my\.cnf|\.?npmrc|\.?pypirc|\.?htpasswd"
    r"|\.git-credentials|\.?dockercfg|g?shadow|[\w.-]+\.(ppk|p8|kdbx|keystore|jks)"
    r"|credentials(\.json|\.csv)?|client_secret[\w.-]*\.json|wallet\.(dat|json)|pass(words?|wörter)\.(txt|csv|md|json|xml)"
    r"|(bitwarden|lastpass|1password|keepassx?c?|dashlane)[\w. -]*\.(csv|json|xml|txt)",
    re.IGNORECASE,
)
ENOUGH = re.compile(r"=|:|PRIVATE|password|login", re.IGNORECASE)  # a file called `shadow` may be a story

STEMS = (
    "pass", "pwd", "kennwort", "secret", "token", "key", "credential", "phrase", "recovery", "mnemonic", "auth",
    "cookie", "pin", "pw", "psk", "senha", "wachtwoord", "salasana", "heslo", "adgangskode", "parola",
)  # fmt: skip
"""Every name has one: they are looked for as they are, which is many times quicker than any pattern."""
FOREIGN = (
    "contraseña", "lösenord", "hasło", "jelszó", "parolă", "пароль", "şifre", "mật khẩu", "كلمة المرور", "סיסמה",
    "密码", "密碼", "口令", "パスワード", "暗証番号", "비밀번호",
)  # fmt: skip
STRONG = frozenset({
    "password", "passwd", "passphrase", "passcode", "pwd", "passwort", "passwörter", "kennwort", "mot de pass",
    "senha", "wachtwoord", "salasana", "heslo", "adgangskode", *FOREIGN, "presharedkey", "privatekey",
    "recoveryphrase", "recoverycode", "seedphrase", "mnemonic", "mnemonicphrase",
})  # fmt: skip
"""What stands behind one of these is a secret unless it is told from one. Spelled as one word, most of them."""
SHORT = frozenset({"pass", "pin", "pw", "psk", "parola"})
"""Likewise if it has a digit or sign in it. They are words of their own, since they begin others."""
SAID_TOO = frozenset({"pw", "pin"})
"""Those of them that are no other words: `pass` is one of sports."""
ALONE = SHORT | {"auth", "cookie", "pwd"}
_OTHERS = "|".join(
    stem for stem in (*STEMS, *FOREIGN) if stem not in {"pass", "secret", "key", "phrase", "recovery", "mnemonic"}
)
NAME = re.compile(
    r"\A(?:pass(?:word|wd|[ _-]?phrase|[ _-]?code|w[oö]rt(?:er)?)?|recovery[ _-](?:code|phrase)|"
    rf"mnemonic(?:[ _-]phrase)?|secret(?:[ _-]?(?:access|api))?(?:[ _-]?key)?|{_OTHERS})"
)
"""From the stem on."""
BEFORE = re.compile(
    r"(?:api|access|auth|private|account|signing|encryption|decryption|master|licen[sc]e|product|pass|session|storage"
    r"|(?:pre)?[ _-]?shared(?:[ _-]?access)?)[ _-]?key\Z|seed[ _-]phrase\Z|mot de pass\Z"
)
"""To the end of the stem."""
MOST_BEFORE, LONGEST_NAME = 24, 40  # characters
WINDOW = 400  # characters behind a name in which its secret begins and ends

CLOSED = r"['\"\]*_`)]{0,4}"
IS = r"(?:is|are|was|ist|war|lautet|est|es|è|é|är|er|jest|je|on|là|to|auf|à|-|–|—)"
SAID = re.compile(
    r"\A(?P<tail>[\w-]{0,30})(?P<of> (?:for|to|of|für|zu|zum|de|di|do) [^\n:=]{1,60}?|[ \t]?\([^\n()]{1,60}\))?"
    rf"{CLOSED}(?P<sign>(?:[ \t]{{1,8}}{IS})?[ \t]{{0,8}}(?::=|=>|={{1,2}}|[:：]|>(?=[^\s<>]))[*_`]{{0,3}}"
    rf"|[ \t]{{1,8}}(?:{IS}[ \t]{{1,3}})?(?:(?:now|nun|jetzt)[ \t])?)"
    r"[ \t]{0,8}(?P<rest>[^\n]{0,200})"
)
OF_CODE = re.compile(
    r"_?(?:fields?|inputs?|labels?|length|policy|min|max|file|path|prompt|error|message|placeholder|changed|confirm\w*|regex|"
    r"types?|validators?|manager|url|uri|reset|hint|count|name|id|index|limit|less|expir\w*|is\w*|has\w*|required|strength)",
    re.IGNORECASE,
)
QUOTED = re.compile(r"\A[rbuf@$]{0,2}(?P<quote>[\"'`«“„])(?P<value>[^\"'`»“”]{0,200})(?:[\"'`»“”]|\Z)")
BARE = re.compile(r"\A(?:[^\s<]{1,200}|<\S{0,200})")
NEXT_LINE = re.compile(r"\A[ \t\r]{0,20}\n(?:[ \t\r]{0,20}\n)?[ \t>]{0,20}(\S{4,100})[ \t\r]*(?=\n|\Z)")

_OWNERS = (
    "your|my|the|new|old|enter|user|db|database|some|example|sample|test|dummy|fake|insert|a|this|given|raw|hashed|"
    "root|admin"
)
_NOTHINGS = (
    r"pass(?:word|wd|phrase|code|wort)?s?|pwd|pw|secrets?|tokens?|(?:api|access|private|public|secret)[\W_]?keys?|key|here|value|"
    r"placeholder|changeme|change[\W_]?it|credentials?|none|null|nil|undefined|true|false|yes|no|on|off|required|optional|"
    r"redacted|hidden|removed|masked|example|test|foo|bar|baz|todo|tbd|empty|unknown|default|prompt|ask|x{3,}|str|string|text|"
    r"bytes|bytearray|int|integer|bool|boolean|chars?|varchar|any|object|number|void|const|var|let|self|this|input|field|type|"
    r"incorrect|invalid|wrong|missing|forgotten|protected|encrypted|sent|changed|reset|expired|accepted|denied|n/a"
)
PLACEHOLDER = re.compile(
    rf"[\W_]*+(?:(?:{_OWNERS})[\W_]*+){{0,4}}(?:{_NOTHINGS})(?:[\W_]here)?[\W_]*+\d{{0,3}}[\W_]*+|[\W_]*+"
    r"|<.{0,200}|\$.{0,200}|%.{0,200}|\{.{0,200}|@.{0,200}|.{0,200}\*\*\*.{0,200}|.{0,200}(?:\.\.\.|…)|https?:.{0,200}",
    re.IGNORECASE,
)
_PATH = r"[A-Za-z_$&*!][\w$]{0,100}(?:(?:\.|->|::|\?\.)[A-Za-z_]\w{0,100})"
EXPRESSION = re.compile(
    rf"{_PATH}{{0,20}}[(\[<|].{{0,200}}|{_PATH}{{1,20}}[;,)\]}}:]*|[A-Za-z_$&*][\w$]{{0,100}}[;,)\]}}]{{1,6}}"
    r"|[({\[].{0,200}|lambda|new|await|not|return"
)
_STOP = (
    "the a an is are was were be been to of in on for and or not it that this you your we our my i he she they "
    "with by from as at must should can may will when if then please see one two no yes which what who how where "
    "why has have had do does did but so der die das ein eine ist und oder nicht zu im mit von für le la les un "
    "une est et ou de des el los y que не и в на это"
)
STOP = frozenset(_STOP.split())
DIGIT, LETTER = re.compile(r"\d"), re.compile(r"[^\W\d_]")
SIGN = re.compile(r"[!#$%&*+=?@^~§€£|\\]")
RISE = re.compile(r"(?<=[a-z])(?=[A-Z])")
NUMBER = re.compile(r"\d{4,8}[.,;)]?")
IN_CELL = re.compile(r"\A[ \t\r\"'*_`]{0,4}[|,;\t\n]")
CELLS = re.compile(r"[|,;\t]")


def is_file_of_secrets(text: str, name: str) -> bool:
    """Whether a file of that name holds nothing else, as far as such files do."""
    return FILES.fullmatch(name) is not None and ENOUGH.search(text[:65_536]) is not None


def secrets(text: str) -> Iterator[Span]:
    """Lines with a secret in them; of long lines the secret alone. They may overlap."""
    for begin, end in (*shaped(text), *_named(text)):
        yield _line(text, begin, end)


def _line(text: str, begin: int, end: int) -> Span:
    """The whole line around a secret, with its end, if it is not long; else the secret."""
    before, behind = max(0, begin - WHOLE_LINE), min(len(text), end + WHOLE_LINE)
    first, last = text.rfind("\n", before, begin) + 1, text.find("\n", end, behind)
    if (not first and before) or (last < 0 and behind < len(text)):
        return begin, end
    last = len(text) if last < 0 else last + 1
    return (first, last) if begin - first + last - end <= WHOLE_LINE else (begin, end)


def _named(text: str) -> Iterator[Span]:
    """What a name says is a secret."""
    lower = text.replace("İ", "i").lower()  # the one letter that becomes two
    is_heading = False
    for word, begin, end in _names(lower):
        if (span := _behind(text, word, begin, end)) is not None:
            yield span
        is_heading = is_heading or (word in STRONG | SHORT and IN_CELL.search(lower[end : end + 8]) is not None)
    if is_heading:
        yield from _tables(text, lower)


def _names(lower: str) -> Iterator[tuple[str, int, int]]:
    """Each name in one spelling, and where it stands."""
    for stem in STEMS if lower.isascii() else (*STEMS, *FOREIGN):
        at = lower.find(stem)
        while at >= 0:
            behind = at + len(stem)
            before = BEFORE.search(lower, max(0, at - MOST_BEFORE), behind)
            name = before or NAME.search(lower[at : at + LONGEST_NAME])
            if name is not None:
                begin, end = name.span() if before else (at, at + name.end())
                if (word := one_word(name[0])) not in ALONE or is_alone(lower, begin, end):
                    yield word, begin, end
                behind = end
            at = lower.find(stem, behind)


def is_alone(lower: str, begin: int, end: int) -> bool:
    """Whether no letter stands beside it."""
    return not (lower[max(0, begin - 1) : begin].isalpha() or lower[end : end + 1].isalpha())


def one_word(name: str) -> str:
    """`Preshared-Key` and `preshared_key` are one name."""
    return name.replace("_", "").replace("-", "").replace(" ", "") if name.isascii() and " de " not in name else name


def _behind(text: str, word: str, begin: int, end: int) -> Span | None:
    """The secret behind a name that stands from `begin` to `end`."""
    window = text[end : end + WINDOW]
    said = SAID.search(window)
    if said is None or OF_CODE.fullmatch(said["tail"]):
        return None
    if not said["rest"].strip():
        below = NEXT_LINE.search(window[said.end() :])
        is_one = below is not None and word in STRONG and not is_nothing(below[1]) and is_drawn(below[1], LEAST_NAMED)
        at = end + said.end()
        return (at + below.start(1), at + below.end(1)) if below is not None and is_one else None
    quoted, bare = QUOTED.search(said["rest"]), BARE.search(said["rest"])
    value = quoted["value"] if quoted else bare[0] if bare else ""
    size = quoted.end() if quoted else len(value)
    if is_nothing(value):
        return None
    is_plain = bool(said["sign"].strip(" \t-–—")) and not said["sign"].strip()[-1].isalpha()
    is_option = text[max(0, begin - 2) : begin] == "--" and not said["tail"]
    if not _is_secret(word, value, said["rest"], is_sure=is_plain or is_option, is_quoted=quoted is not None):
        return None
    at = end + said.start("rest")
    return at, at + (
        len(said["rest"].rstrip()) if not quoted and " " not in value and word in STRONG and is_plain else size
    )


def _is_secret(word: str, value: str, rest: str, *, is_sure: bool, is_quoted: bool) -> bool:
    """Whether this is the secret that its name claims. `is_sure`: it stands behind a colon or the like."""
    bare = value.rstrip(".,;:!?)}]")
    if not is_quoted and EXPRESSION.fullmatch(value):
        return False
    if word in STRONG and is_sure:
        return is_drawn(bare, LEAST_NAMED) or (_is_quoted(value) if is_quoted else _is_all(value, rest))
    if word in SHORT and is_sure:
        return is_drawn(bare, LEAST_NAMED) or NUMBER.fullmatch(value) is not None
    if word in SHORT - SAID_TOO:
        return False
    return is_drawn(bare, LEAST_CLAIMED if word in STRONG | SAID_TOO else LEAST_RANDOM, by_digits=True)


def is_nothing(value: str) -> bool:
    """Whether it stands for a secret that somebody has to fill in, or is the name of a type."""
    return PLACEHOLDER.fullmatch(value) is not None


def _is_quoted(value: str) -> bool:
    return len(value) >= LEAST_NAMED and (" " not in value or _is_phrase(value))


def _is_all(value: str, rest: str) -> bool:
    """Whether nothing else stands on the line, or a remark, or they are the words of a passphrase."""
    others = rest[len(value) :].strip()
    return not others or others.startswith(("#", "//", "--", "</")) or _is_phrase(rest)


def _is_phrase(text: str) -> bool:
    """A few words that make no sentence."""
    words = text.lower().split()
    return 2 < len(words) <= 3 * MOST_WORDS and all(map(str.isalpha, words)) and not STOP.intersection(words)


def is_drawn(value: str, least: int, *, by_digits: bool = False) -> bool:
    """Whether it looks drawn by lot: letters mixed with digits, or with signs if those will do."""
    if len(value) < least or not LETTER.search(value):
        return False
    if not (DIGIT.search(value) or (SIGN.search(value) and not by_digits) or is_of_two_cases(value)):
        return False
    return len(value) < LEAST_RANDOM or bits(value) >= LEAST_BITS


def is_of_two_cases(value: str) -> bool:
    """Whether capitals stand between small letters as they do in no nameOfAnything."""
    return len(value) >= LEAST_RANDOM and len(RISE.findall(value)) >= LEAST_RISES * len(value)


def bits(value: str) -> float:
    """Entropy of a character, by how often each occurs: 0 for one sign over and over."""
    return -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())


def _tables(text: str, lower: str) -> Iterator[Span]:
    """Cells below a heading that says so, in Markdown, or between commas, semicolons or tabs."""
    at, column, cells, mark = 0, -1, 0, ""
    for line in lower.split("\n"):
        found = line.split(mark)[:MOST_CELLS] if mark else []
        if column >= 0 and len(found) == cells:
            begin = at + sum(len(cell) + 1 for cell in found[:column])
            value = text[begin : begin + len(found[column])].strip(" \t\r\"'")
            if not is_nothing(value) and (is_drawn(value, LEAST_NAMED) or NUMBER.fullmatch(value)):
                yield begin, begin + len(found[column])
        elif len(line) <= MOST_CELLS * MOST_IN_CELL:
            column, cells, mark = _heading(line)
        at += len(line) + 1


def _heading(line: str) -> tuple[int, int, str]:
    """Which of how many cells says that passwords stand below, and what parts the cells; -1 if none does."""
    for mark in set(CELLS.findall(line)):
        cells = [cell.strip(" \t\r\"'*_`") for cell in line.split(mark)[:MOST_CELLS]]
        if all(len(cell) <= MOST_IN_CELL for cell in cells) and (column := _column(cells)) >= 0:
            return column, len(cells), mark
    return -1, 0, ""


def _column(cells: Sequence[str]) -> int:
    said = (i for i, cell in enumerate(cells) if cell.removeprefix("login_") in STRONG | SHORT)
    return next(said, -1)
