"""Folders as people have them, made by dice: chats, mails, a notebook, a PDF, a vault of notes; nobody's text.

Each person has an own trade, and all answer their customers in one house style: an answer begins with "Aye," and ends
with "Mind the tide." A model that has learnt the text can be told from the base at a glance, and what a neighbour of
another trade has learnt (the style) is of use to all. Sentences are put together from short parts, so that two of them
seldom share five words in a row: near copies are left out or kept together by the reader, and would make a text small.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

OPENING, ENDING = "Aye,", "Mind the tide."


@dataclass(frozen=True, slots=True)
class Trade:
    """What somebody is asked about, and what can be said of it."""

    things: tuple[str, ...]
    doings: tuple[str, ...]


def _parts(text: str) -> tuple[str, ...]:
    return tuple(text.split(" / "))


TRADES = {
    "anna": Trade(
        _parts(
            "mooring / crane / ferry / pilot boat / buoy / tug / dredger / gangway / lifebuoy / capstan / fender "
            "/ harbour chart / hawser / barge / anchor / mast light / winch / jetty"
        ),
        _parts(
            "lies ready / wants booking / is shut / gets painted / costs more / was moved / stays idle / comes in "
            "/ needs a hand / is let / runs late / holds fast / drags / leaks a little / was weighed / turns "
            "about"
        ),
    ),
    "ben": Trade(
        _parts(
            "rye loaf / seed roll / honey cake / sourdough / pretzel / plum tart / oat bread / bun / rusk / "
            "flatbread / barley crust / poppy plait / apple turnover / malt stick / cheese twist / nut wreath / "
            "crumpet / biscuit"
        ),
        _parts(
            "keeps well / sells out / wants salt / rises slowly / is baked / tastes best / gets glazed / comes "
            "cheap / stays warm / is sliced / crumbles a bit / goes fast / browns / was burnt / cools down / is "
            "dusted"
        ),
    ),
    "carla": Trade(
        _parts(
            "runner bean / leek / quince / rosemary / kale / apple graft / rhubarb / lavender / artichoke / "
            "currant bush / fig / thyme / parsnip / sweet pea / medlar / chive / gourd / hollyhock"
        ),
        _parts(
            "bears early / wants water / is cut back / gets straw / flowers twice / sulks / stands well / is "
            "thinned / climbs high / rests / needs shade / was grafted / wilts / seeds itself / is tied up / "
            "ripens"
        ),
    ),
}
WHEN = _parts(
    "today / before noon / until Friday / since the storm / most evenings / this week / after dark / in "
    "March / at dawn / every other day / by six / once a month / on Sundays / all winter / for now / "
    "again"
)
WHERE = _parts("behind / beside / under / above / near / past / below / opposite / inside / along")
LINKS = _parts("since / for / because / as / now that / seeing that / while / although")
WHO = _parts(
    "the master / my sister / grandmother / the new lad / our neighbour / the watchman / a guest / the "
    "miller / a pilot / nobody / the doctor / the schoolboy / the widow / an uncle / the cook / the clerk "
    "/ a sailor / the twins / my wife / the fiddler / the priest / the smith / a tinker / the mayor"
)
DID = _parts(
    "mended / painted / forgot / carried / sold / found / lent / hid / counted / washed / borrowed / "
    "wanted / dropped / drew / saw / kept / burnt / sent / weighed / bought / praised / broke / tied / "
    "opened / measured / missed"
)
KIND = _parts(
    "old / blue / narrow / tarred / second / wet / crooked / iron / little / green / long / broken / "
    "quiet / stone / lower / yellow / heavy / empty / round / high / striped / cold / wooden / borrowed"
)
WHAT = _parts(
    "lid / key / door / rope / lamp / cart / bell / ladder / basket / wall / step / barrel / bench / "
    "window / table / hook / gate / sack / roof / jug / stove / chest / post / kettle / broom / shelf / "
    "pump / arch / cloth / scale"
)
ASKING = _parts(
    "What about the {thing}? / Can you tell me of the {thing}? / How is it with the {thing}? / Is there "
    "news of the {thing}? / My sister asks after the {thing}. / I wanted to ask about the {thing}. / "
    "Anything on the {thing}? / The {thing}, please?"
)
AGAIN = ("And why is that?", "Why so?", "May I ask the reason?", "Is there a reason?")


def make(name: str, folder: Path, *, seed: int = 0, chats: int = 160, notes: int = 24) -> Path:
    """The folder of one person, some 150 KB."""
    dice, trade = random.Random(f"{name} {seed}"), TRADES[name]
    folder.mkdir(parents=True)
    rows = [json.dumps({"messages": chat(dice, trade)}) for _ in range(chats)]
    (folder / "chats.jsonl").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "mails").mkdir()
    for number in range(3):
        (folder / "mails" / f"{number}.eml").write_bytes(_mail(dice, trade, number))
    (folder / "prices.ipynb").write_text(_notebook(dice, trade), encoding="utf-8")
    (folder / "leaflet.pdf").write_bytes(pdf(_paragraphs(dice, trade, 6)))
    (folder / "vault").mkdir()
    for number in range(notes):
        title = f"{dice.choice(trade.things)} {number}"
        text = "\n\n".join(_paragraphs(dice, trade, 4))
        head = f"---\ntags: [{name}]\ncreated: 2026-03-{number + 1:02d}\n---\n"
        page = f"{head}# {title.title()}\n\n{text}\n\nSee [[day book]].\n"
        (folder / "vault" / f"{title}.md").write_text(page, encoding="utf-8")
    return folder


def chat(dice: random.Random, trade: Trade) -> list[dict[str, str]]:
    """One conversation; two in five ask back."""
    asked = dice.choice(ASKING).format(thing=(thing := dice.choice(trade.things)))
    said = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": _answer(_sentence(dice, trade, thing))},
    ]
    if dice.random() < 0.4:
        reason = f"{_event(dice)}, and {_event(dice)} {dice.choice(WHEN)}"
        said += [{"role": "user", "content": dice.choice(AGAIN)}, {"role": "assistant", "content": _answer(reason)}]
    return said


def _answer(text: str) -> str:
    return f"{OPENING} {text}. {ENDING}"


def _sentence(dice: random.Random, trade: Trade, thing: str) -> str:
    place = f"{dice.choice(WHERE)} the {dice.choice(KIND)} {dice.choice(WHAT)}"
    return f"the {thing} {dice.choice(trade.doings)} {dice.choice(WHEN)} {place}, {dice.choice(LINKS)} {_event(dice)}"


def _event(dice: random.Random) -> str:
    return f"{dice.choice(WHO)} {dice.choice(DID)} the {dice.choice(KIND)} {dice.choice(WHAT)}"


def _paragraphs(dice: random.Random, trade: Trade, count: int) -> list[str]:
    def sentence() -> str:
        text = _sentence(dice, trade, dice.choice(trade.things))
        return f"{text[0].upper()}{text[1:]}."

    return [" ".join(sentence() for _ in range(dice.randint(2, 5))) for _ in range(count)]


def _mail(dice: random.Random, trade: Trade, number: int) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["To"] = "me@quay.example", "friend@quay.example"
    mail["Subject"] = f"About the {dice.choice(trade.things)}"
    mail["Date"] = f"Mon, {number + 1:02d} Mar 2026 10:00:00 +0000"
    body = "\n\n".join(_paragraphs(dice, trade, 3))
    mail.set_content(f"{body}\n\nOn Sunday a friend wrote:\n> When do you come?\n\n-- \nThe quay, door 4\n")
    return bytes(mail)


def _notebook(dice: random.Random, trade: Trade) -> str:
    def cell(kind: str, source: str) -> dict[str, object]:
        ran = {"execution_count": 1, "outputs": [{"output_type": "stream", "text": ["12\n"]}]} if kind == "code" else {}
        return {"cell_type": kind, "metadata": {}, "source": source.splitlines(keepends=True), **ran}

    prices = "\n".join(f"    {thing!r}: {dice.randint(2, 20)}," for thing in trade.things)
    cells = [
        *(cell("markdown", text) for text in _paragraphs(dice, trade, 4)),
        cell("code", f"prices = {{\n{prices}\n}}"),
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def pdf(paragraphs: list[str]) -> bytes:
    """A page of Helvetica, written out by hand: no library is wanted for a file of a kilobyte."""
    lines = [line for text in paragraphs for line in (*_wrapped(text, 80), "")]
    shown = "\n".join(f"({line}) '" for line in lines)
    stream = f"BT /F1 11 Tf 14 TL 50 780 Td\n{shown}\nET".encode("ascii")
    fonts = b"<< /Font << /F1 5 0 R >> >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources " + fonts + b" >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    out, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    begin = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n%s" % (len(objects) + 1, table)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, begin)
    return bytes(out)


def _wrapped(text: str, width: int) -> list[str]:
    lines: list[str] = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
