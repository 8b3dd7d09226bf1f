"""What mail programs put around the words of an author."""

from __future__ import annotations

import pytest

from p2pfinetune.data.formats.quotes import own_words

REPLIES = {
    "Gmail": "Yes.\n\nOn Tue, Mar 3, 2026 at 9:00 AM Bob Long <bob@example.org>\nwrote:\n\n> Sunday?\n>\n> On Mon, Anna wrote:\n>> Ice.\n",
    "Gmail in German": "Yes.\n\nAm Di., 3. März 2026 um 09:00 Uhr schrieb Bob Lang <\nbob@example.org>:\n\n> Sonntag?\n",
    "Gmail in French": "Yes.\n\nLe mar. 3 mars 2026 à 09:00, Bob Long <bob@example.org> a écrit :\n\n> Dimanche ?\n",
    "Gmail in Dutch": "Yes.\n\nOp di 3 mrt 2026 om 09:00 schreef Bob <b@x.org>:\n\n> Zondag?\n",
    "a language nobody listed": "Yes.\n\n2026-03-03 09:00 Bob <b@x.org> kuti:\n\n> Domingo?\n",
    "Thunderbird in German": "Yes.\n\nAm 03.03.26 um 09:00 schrieb Bob:\n> Sonntag?\n> Bob\n",
    "Apple Mail": "Yes.\n\nSent from my iPhone\n\n> On 3 Mar 2026, at 09:00, Bob <b@x.org> wrote:\n> \n> \ufeffSunday?\n",
    "Apple Mail in German": "Yes.\n\nVon meinem iPhone gesendet\n\n> Am 03.03.2026 um 09:00 schrieb Bob <b@x.org>:\n> \n> Sonntag?\n",
    "Outlook": "Yes.\n\n________________________________\nFrom: Bob <b@x.org>\nSent: Tuesday, March 3, 2026 9:00 AM\nTo: A\nSubject: Ice\n\nSunday?\n",
    "Outlook in German": "Yes.\n\nVon: Bob <b@x.org> \nGesendet: Dienstag, 3. März 2026 09:00\nAn: A\nBetreff: Eis\n\nSonntag?\n",
    "Outlook in French": "Yes.\n\nDe : Bob <b@x.org>\nEnvoyé : mardi 3 mars 2026 09:00\nÀ : A\nObjet : Glace\n\nDimanche ?\n",
    "GMX": "Yes.\n \nGesendet: Dienstag, 03. März 2026 um 09:00 Uhr\nVon: Bob <b@x.org>\nAn: a@x.org\nBetreff: Eis\nSonntag?\n",
    "a page of Apple Mail": "Yes.\n\nAm 03.03.2026 um 09:00 schrieb Bob <b@x.org>:\n\n",
    "Samsung": "Yes.\n\nVon meinem Samsung Galaxy Smartphone gesendet.\n\n-------- Ursprüngliche Nachricht --------\nVon: Bob\nDatum: x\nAn: A\n\nSonntag?\n",
    "Outlook of long ago": "Yes.\n\n-----Original Message-----\nFrom: Bob\nSent: x\nTo: A\nSubject: Ice\n\nSunday?\n",
    "without marks": "Yes.\n\nOn Tue, Mar 3, 2026 at 9:00 AM Bob <b@x.org> wrote:\n\nSunday?\nBob\n",
    "a signature and a list": "Yes.\n-- \nAnna\nKiel\n_______________________________\nboats mailing list\nhttps://x.org/listinfo/boats\n",
    "a list of the kernel": "Yes.\n--\nTo unsubscribe from this list: send the line\n",
}


@pytest.mark.parametrize("program", REPLIES)
def test_of_a_reply_the_authors_words_stay_and_all_else_is_counted(program):
    text = REPLIES[program]
    words, left_out = own_words(text)

    assert words == "Yes."
    assert sum(left_out.values()) >= len(text) - len("Yes.\n\n") - 40


def test_answers_between_quotes_stay():
    text = "On 3/3/26 9:00 AM, Bob wrote:\n> Shall we?\n\nYes.\n\n> When?\n\nSunday.\n\n>> Where?\nHere."

    assert own_words(text)[0] == "Yes.\n\nSunday.\n\nHere."


@pytest.mark.parametrize(
    "text",
    [
        "Look.\n\n---------- Forwarded message ---------\nFrom: Bob <b@x.org>\nDate: Tue\nSubject: Ice\nTo: A\n\nIt holds.\n",
        "Look.\n\nBegin forwarded message:\n\nFrom: Bob <b@x.org>\nSubject: Ice\nDate: Tue\nTo: A\n\nIt holds.\n",
        "Look.\n\n-------- Weitergeleitete Nachricht --------\nBetreff: Eis\nDatum: Di\nVon: Bob\nAn: A\n\nIt holds.\n",
    ],
)
def test_of_a_mail_that_was_passed_on_the_headers_go_and_its_text_stays(text):
    assert own_words(text)[0] == "Look.\n\nIt holds."


def test_a_header_block_with_nothing_above_it_is_of_a_mail_that_was_passed_on():
    assert own_words("\n\nVon: Bob\nGesendet: Di\nAn: A\nBetreff: Eis\n\nEs hält.\n")[0] == "Es hält."


@pytest.mark.parametrize(
    "text",
    [
        "On Monday she wrote:\n\nthe harbour is frozen.",
        "From: where did it come?\nTo: whom?\n\nNobody knows.",
        "Options:\n-- \n" + "one line\n" * 40 + "end",
        "In short: x > y, and y > z.",
        "I was sent from my home town to the sea.",
        "1. De: of\n2. Van: from",
        "She said:\nyes.",
        "To: the sea\nDate: today\n\nFrom: is a word.",
        "A: yes\nAn: no\nVan: perhaps",
    ],
)
def test_letters_that_only_look_so_stay_whole(text):
    assert own_words(text) == (text, {})
