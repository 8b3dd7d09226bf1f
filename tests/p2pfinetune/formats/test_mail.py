"""Mails: what their authors wrote."""

from __future__ import annotations

import base64
import time

import pytest

from p2pfinetune.data.formats.mail import is_mail, mail, unfolded
from p2pfinetune.data.formats.mbox import is_mbox

HEADERS = (
    "Received: from a by b\nFrom: Anna <anna@example.org>\nTo: Bob <bob@example.org>\n"
    "Date: Tue, 3 Mar 2026 10:11:00 +0100\nMessage-ID: <1@example.org>\nMIME-Version: 1.0\n"
)
PLAIN = HEADERS + "Subject: =?utf-8?q?Das_Eis_h=C3=A4lt?=\nContent-Type: text/plain; charset=iso-8859-1\n\n"


def test_of_a_mail_subject_and_body_are_read(seen):
    found = seen("a.eml", (PLAIN + "Lieber Bob,\n\ndas Eis hält schön.\n\nAnna\n-- \nAnna, Kiel\n").encode("latin-1"))

    assert found.texts == ["Das Eis hält\n\nLieber Bob,\n\ndas Eis hält schön.\n\nAnna"]
    assert found.left_out == {"mail signatures": 15}
    assert found.encoding == "cp1252"


@pytest.mark.parametrize("subject", ["Re: Eis", "AW: Eis", "Fwd: Eis", "[boats] Re[2]: Eis", "WG: Eis"])
def test_the_subject_of_a_reply_is_a_quote_and_not_read(seen, subject):
    assert seen("a.eml", f"{HEADERS}Subject: {subject}\n\nYes.\n".encode()).texts == ["Yes."]


MULTIPART = (
    HEADERS
    + """Subject: [boats] Ice
Content-Type: multipart/mixed; boundary="m"

--m
Content-Type: multipart/alternative; boundary="a"

--a
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

The ice is 4=C2=A0cm thin =E2=80=93 stay ashore.

--a
Content-Type: text/html; charset=utf-8

<p>The <b>page</b></p>
--a--
--m
Content-Type: image/png; name="ice.png"
Content-Transfer-Encoding: base64
Content-Disposition: attachment; filename="ice.png"

"""
    + base64.b64encode(bytes(range(90))).decode()
    + """
--m
Content-Type: message/rfc822

From: Carl <c@example.org>
Subject: old

Somebody else's mail
--m--
"""
)


def test_of_alternatives_the_plain_one_is_read_and_attachments_are_left_out_and_counted(seen):
    found = seen("1700000000.M1P2.host:2,S", MULTIPART.encode())

    assert found.texts == ["Ice\n\nThe ice is 4\xa0cm thin – stay ashore."]
    assert found.left_out == {"attachments of mails": 90 + len("Somebody else's mail")}


def test_a_mail_that_is_a_page_is_read_as_one_without_what_it_quotes(seen):
    body = (
        '<style>p {}</style><div>Sch=C3=B6n, bis Sonntag!</div><div class=3D"gmail_signature">Anna, Kiel</div>'
        '<div class=3D"gmail_quote"><div>On Tue, Bob wrote:</div><blockquote type=3D"cite">Sunday?</blockquote></div>'
    )
    headers = (
        f"{HEADERS}Subject: Re: x\nContent-Type: text/html; charset=UTF-8\nContent-Transfer-Encoding: quoted-printable"
    )
    found = seen("a.eml", f"{headers}\n\n{body}\n".encode())

    assert found.texts == ["Schön, bis Sonntag!"]
    assert found.left_out == {"mail signatures": 10, "quoted mail": 25}


def test_a_mail_that_says_nothing_of_its_own_is_left_out_with_the_reason(seen):
    assert seen("a.eml", (HEADERS + "Subject: Re: x\n\n> Sunday?\n> Yes?\n").encode()).reason == "quoted mail"


def test_paragraphs_that_a_mail_program_folded_are_unfolded():
    text = "The ice is \nthin and \ncracks.\n\n> Is \n> it?\nYes.\n-- \nAnna"

    assert unfolded(text, without_space=False) == "The ice is thin and cracks.\n\n> Is it?\nYes.\n-- \nAnna"


def test_a_mail_of_apples_program_is_read_without_what_the_program_says_of_it(seen):
    text = (HEADERS + "Subject: Ice\n\nIt holds.\n").encode()

    for name in ("1.emlx", "1.partial"):
        assert seen(name, b"%d   \n%s<?xml version='1.0'?><plist/>\n" % (len(text), text)).texts == ["Ice\n\nIt holds."]


BOX = (
    f"From anna@example.org Tue Mar  3 10:11:00 2026\n{HEADERS}Subject: One\n\nFirst.\n>From here it is far.\n\n"
    f"From - Wed Mar 04 09:00:00 2026\n{HEADERS}Subject: Two\n\nSecond.\n\nFrom now on we sail.\n\n"
    f"From MAILER-DAEMON Thu Mar  5 09:00:00 2026\n{HEADERS}Subject: Re: x\n\n> quoted\n\n"
)


@pytest.mark.parametrize("name", ["a.mbox", "Inbox"])
def test_each_mail_of_a_box_is_a_document_with_its_number(seen, name):
    found = seen(name, BOX.encode())

    assert found.texts == ["One\n\nFirst.\nFrom here it is far.", "Two\n\nSecond.\n\nFrom now on we sail."]
    assert found.sources == [f"{name}:1", f"{name}:2"]
    assert found.left_out == {"quoted mail": 9}


def test_a_box_with_the_line_ends_of_windows_is_the_same(seen):
    assert seen("a.mbox", BOX.replace("\n", "\r\n").encode()).texts == seen("b.mbox", BOX.encode()).texts


@pytest.mark.parametrize(
    "text",
    [
        "From here on, at 10:11, nobody spoke.\nDate: unknown\n",
        "PEP: 8\nTitle: Style\nAuthor: A\n\nFrom: x\n",
        "From: me\nDear diary,\nDate: today\n",
        "HTTP/1.1 200 OK\nDate: x\nServer: y\n",
    ],
)
def test_a_note_is_no_mail(text):
    assert not is_mail(text.encode())
    assert not is_mbox(text.encode())


def test_a_mail_in_an_unknown_or_wrong_charset_is_read_by_its_content(seen):
    for charset in ("utf-8", "us-ascii", "punycode", "idna", "nonsense", ""):
        headers = f"{HEADERS}Subject: Re: x\nContent-Type: text/plain; charset={charset}\n\n"
        data = headers.encode() + "Où est le garçon ? Über die Brücke, à côté de l'élève. ".encode("latin-1") * 3

        assert seen("a.eml", data).texts[0].startswith("Où est le garçon ? Über die Brücke")


def nested(depth: int) -> bytes:
    inner = "Content-Type: text/plain\n\nIce.\n"
    for number in range(depth):
        inner = f'Content-Type: multipart/mixed; boundary="b{number}"\n\n--b{number}\n{inner}\n--b{number}--\n'
    return (HEADERS + "Subject: x\n" + inner).encode()


def test_parts_inside_one_another_are_read_to_a_depth_and_then_refused(seen):
    assert seen("a.eml", nested(20)).texts == ["x\n\nIce."]
    assert seen("b.eml", nested(300)).reason == "a mail nested too deep"
    assert seen("c.mbox", b"From a Tue Mar  3 10:11:00 2026\n" + nested(300)).reason == "a mail nested too deep"


STUBBORN = {
    "boundaries": nested(150) + b"x\n" * 6000,
    "quotes": (HEADERS + "\n" + "On 3 Mar 2026 10:11, b wrote:\n> x\n" * 2500).encode(),
    "blocks": (HEADERS + "\n" + "From: b\nSent: x\nTo: x\n" * 2500).encode(),
    "rulers": (HEADERS + "\n" + "-" * 60_000 + "\n" + "_" * 60_000).encode(),
    "blanks": (HEADERS + "\n" + "a" + " " * 30_000 + "\n" + "\n \n" * 12_000 + "x").encode(),
    "a long subject": (HEADERS + "Subject: " + "=?utf-8?q?a" * 6000 + "\n\nx").encode(),
    "signatures": (HEADERS + "\n" + "-- \nx\n" * 10_000).encode(),
    "introductions": (HEADERS + "\n" + "On <a@\n\n" * 10_000).encode(),
    "names": (HEADERS + "\n" + ("On " + "<a" * 12_000 + "\n") * 3).encode(),
}


@pytest.mark.parametrize("kind", STUBBORN)
def test_no_mail_keeps_the_reader_busy_for_longer_than_its_length(kind):
    begun = time.process_time()

    mail(STUBBORN[kind])

    assert time.process_time() - begun < 4.0
