"""Of a mail's text the words of its author: without what it quotes, its signature, and footers of lists.

Mail programs know no common mark for a quote, so several are looked for, in two dozen languages:

    lines that begin with ">", and the line that introduces them ("On ... wrote:", "Am ... schrieb X:"), in any language
    "-----Original Message-----" and the block From/Sent/To/Subject of Outlook: all below is quoted
    "On 3 March 2026 at 10:11, X <x@y> wrote:" before text without marks: all below is quoted
    "---------- Forwarded message ----------": its headers go, the text that was passed on stays
    "-- " at the end, "Sent from my iPhone", and the footer that a list puts below

A block of Outlook with nothing above it is a mail that was passed on. Every line is looked at a bounded number of
times. Such marks can be learnt too (Carvalho and Cohen, "Learning to extract signature and reply lines from email",
CEAS 2004); rules were enough for the mail programs that the tests know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import takewhile

QUOTED, SIGNATURE, FOOTER = "quoted mail", "mail signatures", "footers of mailing lists"
MAX_SIGNATURE = 25  # lines; below more of them "--" was a ruler
MAX_INTRODUCTION = 3  # lines over which a mail program breaks "On ... wrote:"
MAX_INTRODUCTION_CHARACTERS = 400
MAX_BLOCK = 12  # lines of a header block

QUOTE = re.compile(r"[ \t]{0,2}(>|&gt;).*")
BEGINS = re.compile(
    r"[ \t>*]*(On|Am|Den|Le|El|Il|Op|Em|Dnia|W dniu|Dne|Pe|På|Em|Vào|Na|Il giorno|Le|At|In a message|Quoting|"
    r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}|\w{2,4}, \d|.{1,60}<[^<>\s]{1,80}@)\b.*"
)
VERB = re.compile(
    r"\b(wrote|writes|schrieb|schrieben|geschrieben|a écrit|écrit|escribió|escribio|ha scritto|schreef|skrev|kirjoitti|"
    r"napisał|napisała|pisze|escreveu|написал|написала|пишет|написав|napsal|napsala|írta|yazdı|schreven|a scris|"
    r"έγραψε|写道|書きました|작성)\b|写道|のメッセージ",
    re.IGNORECASE,
)
DATED = re.compile(r"\d{1,2}[:.h]\d\d|\b(19|20)\d\d\b|@")
ORIGINAL = re.compile(
    r"[ \t>*]*[-_=]{2,}[ \t]*(original message|ursprüngliche nachricht|original-nachricht|originalnachricht|"
    r"message d'origine|message original|mensaje original|mensagem original|messaggio originale|"
    r"oorspronkelijk bericht|ursprungligt meddelande|oprindelig meddelelse|исходное сообщение|原始邮件|"
    r"reply message|antwort)[ \t]*[-_=]*[ \t*]*",
    re.IGNORECASE,
)
FORWARDED = re.compile(
    r"[ \t>*]*([-_=]{2,}[ \t]*)?(begin forwarded message|forwarded message|weitergeleitete nachricht|"
    r"anfang der weitergeleiteten (nachricht|e-mail)|message transféré|début du message (réexpédié|transféré)|"
    r"mensaje reenviado|messaggio inoltrato|mensagem encaminhada|doorgestuurd bericht)( \w+){0,3}[ \t]*:?[ \t]*"
    r"([-_=]*)[ \t*]*",
    re.IGNORECASE,
)
FROM = re.compile(r"[ \t]*\*?(From|Von|De|Da|Van|Od|Från|Fra|От|发件人|差出人)[ \t\u00a0]*[:：]\*?[ \t].*")
OTHER_HEADER = re.compile(
    r"[ \t]*\*?(?:(?P<date>Sent|Date|Gesendet|Datum|Envoyé|Enviado el|Enviado|Inviato|Data|Verzonden|Skickat|Sendt|"
    r"Отправлено|发送时间)|(?P<to>To|Cc|An|Kopie|À|A|Para|Aan|Till|Til|Кому|收件人)|"
    r"(?P<subject>Subject|Betreff|Objet|Asunto|Assunto|Oggetto|Onderwerp|Ämne|Emne|Тема|主题)|"
    r"Reply-To|Importance|Priority|Attachments)[ \t\u00a0]*[:：]\*?(?:[ \t].*)?",
    re.IGNORECASE,
)
MARK_OF_SIGNATURE = re.compile(r"--[ \t\u00a0]?")
SENT_FROM = re.compile(
    r"(sent|gesendet|envoyé|enviado|inviato|verzonden|skickat|get|von meinem|diese nachricht wurde von)\b.{0,60}"
    r"\b(iphone|ipad|android\w*|outlook|blackberry|samsung\w*|galaxy|mobil\w*|handy|smartphone|huawei|mail[- ]app|"
    r"yahoo|gmx|proton\w*|web\.de)\b.{0,60}",
    re.IGNORECASE,
)
RULER = re.compile(r"[_=-]{20,}[ \t]*")
BLANK_LINES = re.compile(r"\n(?:[ \t\u00a0]*\n){2,}")  # around what was left out
LIST_WORDS = re.compile(r"mailing list|mailman|unsubscribe|listinfo|abmelden|austragen|désinscri", re.IGNORECASE)


def own_words(text: str) -> tuple[str, Mapping[str, int]]:
    """The author's words, and how many characters were left out, by reason."""
    lines = text.split("\n")
    left_out: dict[str, int] = {}
    lines = _without_forward_headers(lines, left_out)
    lines = _without_tail(lines, left_out)
    lines = _without_quotes(lines, left_out)
    for _ in range(3):  # a list's footer, the signature above it, and one more list
        lines = _without_footer(lines, left_out)
        lines = _without_signature(lines, left_out)
    end = len(lines)
    while end and (not lines[end - 1].strip() or RULER.fullmatch(lines[end - 1])):  # of Outlook, above what it quotes
        end -= 1
    return BLANK_LINES.sub("\n\n", "\n".join(lines[:end])).strip("\n"), left_out


def _count(left_out: dict[str, int], reason: str, lines: list[str]) -> None:
    if size := sum(len(line) + 1 for line in lines):
        left_out[reason] = left_out.get(reason, 0) + size


def _without_forward_headers(lines: list[str], left_out: dict[str, int]) -> list[str]:
    at, kept = 0, []
    while at < len(lines):
        end = at
        if FORWARDED.fullmatch(lines[at]):
            end = _end_of_headers(lines, at + 1)
        if end == at:
            kept.append(lines[at])
        _count(left_out, QUOTED, lines[at:end])
        at = max(end, at + 1)
    return kept


def _end_of_headers(lines: list[str], begin: int) -> int:
    """Behind a block of headers, blank lines before it included."""
    at = begin
    while at < len(lines) and at < begin + 3 and not lines[at].strip(" \t>"):
        at += 1
    last = at
    while at < len(lines) and at < begin + MAX_BLOCK and lines[at].strip(" \t>"):
        bare = lines[at].lstrip("> ")
        if not (FROM.fullmatch(bare) or OTHER_HEADER.fullmatch(bare) or last < at):
            break
        at += 1
        last = at if FROM.fullmatch(bare) or OTHER_HEADER.fullmatch(bare) else last
    return last


def _without_tail(lines: list[str], left_out: dict[str, int]) -> list[str]:
    """Without all that stands below a mark behind which everything is quoted."""
    has_words = False
    begin = at = 0
    while at < len(lines):
        below = at
        if ORIGINAL.fullmatch(lines[at]):
            below = at + 1
        elif _is_block(lines, at):
            below = _end_of_headers(lines, at)
        elif has_words and (size := _introduction_below(lines, at)):
            below = at + size
        if below > at and has_words:
            _count(left_out, QUOTED, lines[at:])
            return lines[begin:at]
        if below > at:  # nothing above: it was passed on, and its headers go
            at = _end_of_headers(lines, below)
            _count(left_out, QUOTED, lines[begin:at])
            begin = at
            continue
        has_words = has_words or (bool(lines[at].strip(" \t_-=*>")) and not QUOTE.fullmatch(lines[at]))
        at += 1
    return lines[begin:]


def _is_block(lines: list[str], at: int) -> bool:
    """Whether a block of headers begins here: From, and at least two of date, receiver and subject, in any order."""
    if not (FROM.fullmatch(lines[at]) or (OTHER_HEADER.fullmatch(lines[at]) and not (at and lines[at - 1].strip()))):
        return False
    block = list(takewhile(str.strip, lines[at : at + MAX_BLOCK]))
    kinds = {found.lastgroup for line in block if (found := OTHER_HEADER.fullmatch(line))}
    return len(kinds & {"date", "to", "subject"}) >= 2 and any(FROM.fullmatch(line) for line in block)


def _introduction_below(lines: list[str], at: int) -> int:
    """How many lines introduce a quote that bears no marks; 0 if it bears them, or if this is none."""
    if not BEGINS.fullmatch(lines[at]) or (at and lines[at - 1].strip()):
        return 0
    for size in range(1, MAX_INTRODUCTION + 1):
        joined = " ".join(lines[at : at + size])
        if joined.rstrip(" \u00a0*").endswith(":"):
            is_one = (
                len(joined) < MAX_INTRODUCTION_CHARACTERS and VERB.search(joined) and len(DATED.findall(joined)) > 1
            )
            after = next((line for line in lines[at + size : at + size + 4] if line.strip()), "")
            return size if is_one and not QUOTE.fullmatch(after) else 0
    return 0


def _without_quotes(lines: list[str], left_out: dict[str, int]) -> list[str]:
    kept: list[str] = []
    for line in lines:
        if not QUOTE.fullmatch(line):
            kept.append(line)
            continue
        begin = _introduction(kept)
        _count(left_out, QUOTED, [*kept[begin:], line])
        del kept[begin:]
    return kept


def _introduction(kept: list[str]) -> int:
    """Where the line begins that introduces a quote which follows; the end if there is none."""
    end = len(kept)
    while end and len(kept) - end < 2 and not kept[end - 1].strip():
        end -= 1
    if not end or not kept[end - 1].rstrip(" \u00a0*").endswith(":"):
        return len(kept)
    found = len(kept)
    for size in range(1, min(MAX_INTRODUCTION, end) + 1):
        lines = kept[end - size : end]
        joined = " ".join(lines)
        if not lines[0].strip() or len(joined) > MAX_INTRODUCTION_CHARACTERS:
            break
        if VERB.search(joined) or len(DATED.findall(joined)) > 1:
            found = end - size
            if BEGINS.fullmatch(lines[0]):
                break
    return found


def _without_footer(lines: list[str], left_out: dict[str, int]) -> list[str]:
    """Without what a mailing list puts below: a ruler, and words about the list in the last lines."""
    lines = _without_blank_end(lines)
    for at in range(len(lines) - 1, max(-1, len(lines) - 12), -1):
        if RULER.fullmatch(lines[at]) and LIST_WORDS.search("\n".join(lines[at:])[:2000]):
            _count(left_out, FOOTER, lines[at:])
            return lines[:at]
    return lines


def _without_signature(lines: list[str], left_out: dict[str, int]) -> list[str]:
    lines = _without_blank_end(lines)
    if lines and SENT_FROM.fullmatch(lines[-1].strip()):
        _count(left_out, SIGNATURE, lines[-1:])
        lines = lines[:-1]
    for at in range(len(lines) - 1, max(-1, len(lines) - MAX_SIGNATURE), -1):
        if MARK_OF_SIGNATURE.fullmatch(lines[at]):
            reason = FOOTER if LIST_WORDS.search("\n".join(lines[at:])[:2000]) else SIGNATURE
            _count(left_out, reason, lines[at:])
            return lines[:at]
    return lines


def _without_blank_end(lines: list[str]) -> list[str]:
    end = len(lines)
    while end and not lines[end - 1].strip():
        end -= 1
    return lines[:end]
