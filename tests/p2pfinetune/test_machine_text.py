"""Machine text is left out, and nothing that a person wrote is."""

from __future__ import annotations

import base64
import binascii
import json
import random
import string
import textwrap
import time

import pytest

from p2pfinetune.data import blocks
from p2pfinetune.data.documents import normalise, read_documents
from p2pfinetune.data.machine_text import DETECTORS, cleaned, whole_file

DICE = random.Random(3)
NOISE = DICE.randbytes(6000)
FLAT = bytes([255] * 3000) + NOISE[:1500] + bytes(1500)  # a picture of few colours
BEFORE, AFTER = "Dear Anna,\n\nplease find the plan attached.\n\n", "\n\nYours,\nBen\n"


def wrapped(data, width=76):
    return "\n".join(textwrap.wrap(base64.b64encode(data).decode(), width))


def uuencoded(data):
    lines = [binascii.b2a_uu(data[i : i + 45]).decode() for i in range(0, len(data), 45)]
    return "begin 644 plan.dwg\n" + "".join(lines) + "`\nend"


def dump(data):
    """As xxd prints it."""
    rows = [data[i : i + 16] for i in range(0, len(data), 16)]
    return "\n".join(
        f"{16 * i:08x}: {' '.join(row[j : j + 2].hex() for j in range(0, 16, 2))}  {'.' * 16}"
        for i, row in enumerate(rows)
    )


def minified_script():
    names = ["e", "t", "n", "this", "r.prototype", "o.push"]
    return "".join(
        f"function {DICE.choice('abc')}(e,t){{{DICE.choice(names)}.call(e,t)||(o[{i}]=!t)}};" for i in range(60)
    )


def old_key():
    head = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00FF\n\n"
    return f"{head}{wrapped(NOISE[:1200], 64)}\n-----END RSA PRIVATE KEY-----"


MACHINE = {
    "a key": (
        "key or certificate",
        f"-----BEGIN PRIVATE KEY-----\n{wrapped(NOISE[:1200], 64)}\n-----END PRIVATE KEY-----",
    ),
    "an old key": ("key or certificate", old_key()),
    "a signature": (
        "key or certificate",
        f"-----BEGIN PGP SIGNATURE-----\nVersion: GnuPG v2\n\n{wrapped(NOISE[:300], 64)}\n=ab1C\n-----END PGP SIGNATURE-----",
    ),
    "an attachment": ("base64 or hexadecimal", wrapped(NOISE)),
    "a picture of few colours": ("base64 or hexadecimal", wrapped(FLAT)),
    "an attachment in a reply": ("base64 or hexadecimal", textwrap.indent(wrapped(NOISE), "> ")),
    "a photo in a contact": ("base64 or hexadecimal", textwrap.indent(wrapped(NOISE, 74), " ")),
    "text in base64": ("base64 or hexadecimal", wrapped("Grüße aus Köln. ".encode() * 100)),
    "base64 in one line": ("base64 or hexadecimal", base64.b64encode(NOISE).decode()),
    "a token": ("base64 or hexadecimal", base64.urlsafe_b64encode(NOISE[:200]).decode()),
    "hexadecimal": ("base64 or hexadecimal", NOISE[:200].hex()),
    "a picture in a link": ("data URI", f"![plan](data:image/png;base64,{base64.b64encode(NOISE[:90]).decode()})"),
    "uuencode": ("uuencode or yEnc", uuencoded(NOISE[:500])),
    "yEnc": ("uuencode or yEnc", "=ybegin line=128 size=9 name=a.bin\n)*+,@JKL\nxyz\n=yend size=9"),
    "a patch": ("uuencode or yEnc", "GIT binary patch\nliteral 1234\n" + "zcmV?d00001~$@&*^%#!;{}|a\n" * 4),
    "xxd": ("hex dump", dump(NOISE[:320])),
    "an array of bytes": (
        "hex dump",
        "\n".join(f"  {', '.join(f'0x{b:02x}' for b in NOISE[i : i + 12])}," for i in range(0, 96, 12)),
    ),
    "a script": ("minified code", minified_script()),
    "a style": ("minified code", "".join(f".c{i}>a:hover{{color:#fff;margin:0 {i}px;top:-1px}}" for i in range(40))),
    "a table of numbers": (
        "numbers",
        "\n".join(f"{2000 + i};{DICE.random():.4f};{DICE.randrange(999)};EUR" for i in range(60)),
    ),
    "a drawing": ("numbers", " ".join(f"L{DICE.randrange(900)}.{i},{DICE.randrange(900)}" for i in range(80))),
    "an embedding": ("numbers", json.dumps([round(DICE.gauss(0, 1), 6) for _ in range(80)])),
}


@pytest.mark.parametrize("kind", MACHINE)
def test_machine_text_goes_and_the_letter_around_it_stays(kind):
    reason, text = MACHINE[kind]
    found = cleaned(BEFORE + text + AFTER)

    assert set(found.left_out) == {reason}
    assert found.left_out[reason] >= 0.9 * len(text)
    assert found.text.startswith(BEFORE.rstrip("\n"))
    assert found.text.endswith(AFTER.lstrip("\n"))
    assert len(found.text) + sum(found.left_out.values()) == len(BEFORE + text + AFTER)
    assert len(found.text) <= len(BEFORE + AFTER) + 20


HUMAN = {
    "German compounds": "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft " * 9
    + "Rindfleischetikettierungsüberwachungsaufgabenübertragungsgesetz, " * 9,
    "Finnish": "epäjärjestelmällistyttämättömyydellänsäkäänköhän lentokonesuihkuturbiinimoottoriapumekaanikko " * 20,
    "Hungarian": "megszentségteleníthetetlenségeskedéseitekért elkelkáposztástalaníthatatlanságoskodásaitokért " * 20,
    "Japanese": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。" * 40,
    "Chinese": "道可道,非常道;名可名,非常名。無名天地之始:有名萬物之母。" * 40,
    "Thai": "มนุษย์ทั้งหลายเกิดมามีอิสระและเสมอภาคกันในเกียรติศักดิ์และสิทธิ" * 30,
    "Khmer": "មនុស្សទាំងអស់កើតមកមានសេរីភាពនិងសមភាព" * 40,
    "Vietnamese in one line": "Tất cả mọi người sinh ra đều được tự do và bình đẳng về nhân phẩm và quyền. " * 20,
    "Arabic": "يولد جميع الناس أحراراً متساوين في الكرامة والحقوق، وقد وهبوا عقلاً وضميراً. " * 20,
    "a poem": "Über allen Gipfeln\nIst Ruh,\nIn allen Wipfeln\nSpürest du\nKaum einen Hauch;\n" * 12,
    "laughter": "ha" * 80 + "\n" + "A" * 120 + "!!!\n" + "N" + "o" * 300,
    "rulers": "\n".join(["=" * 79, "-" * 120, "_" * 150, "*" * 90, "+-" * 60, "#" * 200] * 3),
    "links": "\n".join(
        f"- [{i}](https://docs.example.org/d/1BxiMVs0XRA5nFMdKvBdBZjgmUUqptlbs74OgvE2upms/edit?usp=sharing&id={i})"
        for i in range(60)
    ),
    "digests": "\n".join(f"{DICE.randbytes(32).hex()}  notes/of-the-{i}th-day.md" for i in range(60)),
    "a shopping list": "\n".join(f"{i} eggs, {i + 1} l milk, 3 onions" for i in range(80)),
    "a statement": "\n".join(f"2024-01-{i:02};Bakery Miller;-{i},50;EUR" for i in range(60)),
    "a small table": "\n".join(f"| {i} | {i * i} | {i**3} |" for i in range(30)),
    "phone numbers": "\n".join(f"Grandmother {i}: 0171 {i}5550{i}" for i in range(80)),
    "a log": "\n".join(f"2026-11-21T09:15:{i % 60:02}Z info    perform: round finished round={i}" for i in range(80)),
    "a chat": "\n".join(f"[21.11.26, 09:{i % 60:02}] Anna: ok" for i in range(80)),
    "names in code": "\n".join(
        f"    private final AbstractSingletonProxyFactoryBeanDelegatingRequestMatcher{chr(65 + i)} delegate{i};"
        for i in range(20)
    ),
    "long code": "    return {" + ", ".join(f'"name_{i}": compute_value(row[{i}], scale=2)' for i in range(40)) + "}",
    "paths": "\n".join("src/main/java/org/example/project/module/internal/implementation/" * 3 for _ in range(20)),
    "tests in a table": "| what | `"
    + "`, `".join(f"tests/peerd/test_it.py::test_a_thing_{'_x' * 20}" for _ in range(9))
    + "` |",
    "prose about keys": "It begins with\n-----BEGIN PRIVATE KEY-----\nand then come some lines that you should not "
    "show to anybody at all, ever, and in the end there is\n-----END PRIVATE KEY-----\nand that is it." * 3,
    "prose about data": "A link like data:image/png;base64,iVBORw0KGgo= shows a picture. " * 20,
    "years": "\n".join(f"{1900 + i} 12 14 15 16 birds counted" for i in range(60)),
    "tablature": "\n".join(["e|--0--2--3--|", "B|--1--3--0--|", "G|--0--2--0--|"] * 30),
    "chess": " ".join(f"{i}. Nf3 Nc6 {i + 1}. Bb5 a6" for i in range(60)),
    "LaTeX": r"\begin{equation}\int_{0}^{\infty} e^{-x^{2}}\,dx=\frac{\sqrt{\pi}}{2}\end{equation} " * 15,
}


@pytest.mark.parametrize("kind", HUMAN)
def test_nothing_that_a_person_writes_goes(kind):
    text = BEFORE + HUMAN[kind] + AFTER

    assert cleaned(text).text == text
    assert not whole_file(text, "note.md")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("package-lock.json", '{"lockfileVersion": 3}', "lock file"),
        ("Cargo.lock", "[[package]]\n", "lock file"),
        ("app.min.js", "var a=1;", "minified code"),
        ("api.pb.go", "// Code generated by protoc-gen-go. DO NOT EDIT.\npackage api\n", "generated file"),
        ("x.py", '"""A parser. @generated"""\n', "generated file"),
        ("x.h", "/*\n * This file was automatically generated by ctool, do not edit\n */\n", "generated file"),
        ("note.md", "The first line said: Code generated by protoc. DO NOT EDIT.\n", ""),
        ("x.py", "# Do not edit while the server runs.\n", ""),
    ],
)
def test_files_that_programs_write_for_themselves_are_left_out_whole(tmp_path, name, text, reason):
    (tmp_path / name).write_text(text)
    report = read_documents([tmp_path])[1]

    assert whole_file(text, name) == report.entries[0].reason == reason
    assert report.left_out == ({reason: len(text)} if reason else {})


def test_a_file_of_machine_text_alone_is_reported_with_its_kind_and_rows_are_cleaned_each(tmp_path):
    (tmp_path / "key.pem").write_text(MACHINE["a key"][1])
    (tmp_path / "mails.jsonl").write_text(json.dumps({"text": BEFORE + wrapped(NOISE) + AFTER}) + "\n")
    documents, report = read_documents([tmp_path])

    assert [document.text.split() for document in documents] == [(BEFORE + AFTER).split()]
    assert report.skipped == {"key or certificate": (str(tmp_path / "key.pem"),)}
    assert list(report.left_out) == ["key or certificate", "base64 or hexadecimal"]
    assert "characters left out of files (base64 or hexadecimal)" in report.sentences()[2]


@pytest.mark.parametrize(
    "piece",
    [
        "-----BEGIN A KEY-----\n",
        "=ybegin a\n",
        "\n=yend \n",
        "begin 644 a\nM\n",
        "\nend",
        "0x1 ",
        "1 a ",
        "data:;a=b",
        "%2B",
    ],
)
def test_no_text_takes_long_to_look_at(piece):
    text, begun = piece * (100_000 // len(piece)), time.process_time()
    cleaned(text)

    assert time.process_time() - begun < 5.0


def test_whatever_the_text_every_character_is_kept_or_counted():
    dice, pieces = random.Random(1), [text for _, text in MACHINE.values()] + list(HUMAN.values())
    for _ in range(12):
        text = "".join(
            dice.choice(pieces)[dice.randrange(200) : dice.randrange(200, 4000)] + dice.choice(["\n", " ", "", "\n\n"])
            for _ in range(4)
        ) + "".join(dice.choices(string.printable, k=300))
        found = cleaned(text)

        assert len(found.text) + sum(found.left_out.values()) == len(text)
        for _, find in DETECTORS:
            assert all(0 <= begin < end <= len(text) for begin, end in find(text))


LONG = 40_000
STUBBORN = {
    "blanks inside a line": "a" + " " * LONG + "x",
    "base64 that ends in plus signs": "\n".join(["a" * 40 + "+" * LONG + "!"] * 2),
    "bytes before blanks": "\n".join(["0x1 " * 6 + " " * LONG + "!"] * 4),
    "yEnc that begins behind its end": "\n=yend \n" + "=ybegin \n" * (LONG // 4),
    "blank lines without an end": "a" * 5000 + "\n\n\u00a0" * (LONG // 2),
}


@pytest.mark.parametrize("kind", STUBBORN)
def test_no_text_keeps_the_reader_busy_for_longer_than_its_length(kind):
    begun = time.process_time()

    for block in blocks.cut(normalise(cleaned(STUBBORN[kind]).text)):
        assert block.strip()

    assert time.process_time() - begun < 4.0  # quadratic, each takes from ten seconds to minutes
