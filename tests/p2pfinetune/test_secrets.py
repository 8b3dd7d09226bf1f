"""No password, token or key of the list survives in a document, wherever it stands; what people and programs write does."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import string
import time

import pytest

from p2pfinetune.data.documents import read_documents
from p2pfinetune.data.machine_text import LEAST, cleaned
from p2pfinetune.data.secret_shapes import BASE58, is_base58check
from p2pfinetune.data.secrets import REASON, WHOLE_LINE

DICE = random.Random(5)
LETTERS_AND_DIGITS = string.ascii_letters + string.digits


def drawn(count, alphabet=LETTERS_AND_DIGITS):
    return "".join(DICE.choices(alphabet, k=count))


def bitcoin_key(behind=b""):
    body = b"\x80" + DICE.randbytes(32) + behind
    number, text = int.from_bytes(body + hashlib.sha256(hashlib.sha256(body).digest()).digest()[:4], "big"), ""
    while number:
        number, rest = divmod(number, 58)
        text = BASE58[rest] + text
    return text


def key32():
    return base64.b64encode(DICE.randbytes(32)).decode()


BY_SHAPE = {
    "aws": "AKIA" + drawn(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
    "github": "ghp_" + drawn(36),
    "github oauth": "gho_" + drawn(36),
    "github fine": f"github_pat_{drawn(22)}_{drawn(59)}",
    "gitlab": "glpat-" + drawn(20),
    "slack": f"xoxb-{drawn(12, string.digits)}-{drawn(24)}",
    "slack hook": f"https://hooks.slack.com/services/T{drawn(8)}/B{drawn(8)}/{drawn(24)}",
    "discord hook": f"https://discord.com/api/webhooks/{drawn(18, string.digits)}/{drawn(68)}",
    "openai": "sk-proj-" + drawn(48),
    "anthropic": "sk-ant-api03-" + drawn(90),
    "google": "AIza" + drawn(35),
    "google oauth": "GOCSPX-" + drawn(28),
    "stripe": "sk_live_" + drawn(24),
    "npm": "npm_" + drawn(36),
    "pypi": "pypi-AgEIcHlwaS5vcmc" + drawn(120),
    "hugging face": "hf_" + drawn(34),
    "docker": "dckr_pat_" + drawn(27),
    "sendgrid": f"SG.{drawn(22)}.{drawn(43)}",
    "jwt": f"eyJ{drawn(30)}.eyJ{drawn(60)}.{drawn(43)}",
    "telegram": f"{drawn(10, '123456789')}:AA{drawn(33)}",
    "age": "AGE-SECRET-KEY-1" + drawn(58, "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"),
    "bitcoin": bitcoin_key(),
    "bitcoin, compressed": bitcoin_key(b"\x01"),
    "extended key": "xprv" + drawn(107, BASE58),
    "vault": "hvs." + drawn(24),
    "crypt": f"$6${drawn(8)}${drawn(86)}",
}
BY_NAME = {
    "password: @": "hunter2",
    "Password: @ ": "correct horse battery staple",
    "Passwort: @": "Sommer2024!",
    "Kennwort = @": "geheim",
    "mot de passe : @": "chouette42",
    "contraseña: @": "gato77",
    "пароль: @": "kotik99",
    "密码：@": "mima1234",
    "パスワード：@": "neko2020",
    "heslo je @": "tajne123x",
    "Das Passwort lautet @.": "Winter1999",
    "The wifi password is @.": "Blue42Sky",
    "wifi password for guests: @": "welcome99",
    "My password is: @": "plainword",
    "Set password to @": "abcd1234",
    "- **Password:** @": "b0ldpw",
    "my pw: @": "abc123",
    "PIN: @": "471147",
    "Password:\n@\n": "Zx9!kk2p",
    "DB_PASSWORD=@": "s3cr3t",
    '"password": "@",': "tr0ub4dor",
    "passwd='@'": "abcdef",
    "password = @  # the old one": "geheimnis",
    "<password>@</password>": "maven99",
    "user=anna pass=@": "x9y8z7",
    "mysql --password @": "my5qlpass",
    "aws_secret_access_key = @": drawn(40),
    'api_key = "@"': drawn(24),
    "secret: @": drawn(20, string.ascii_letters),
    "token=@": drawn(32, "0123456789abcdef"),
    "PrivateKey = @": key32(),
    "PresharedKey = @": key32(),
    "AccountKey=@;Endpoint=x": key32() + key32(),
    "Server=x;Password=@;Db=y": "azur3pw",
    "seed phrase: @": "ripple cousin walnut velvet orbit canyon maple tiger salad hobby nephew lunar",
    "recovery code: @": "8f3k-29dk-1kd8",
}
BY_PLACE = {
    "postgres://anna:@@db.example.org/x": "pa55word",
    "redis://:@@10.0.0.1:6379": "Qw3rty",
    "machine git.example.org login anna password @": "n3trc",
    "db.example.org:5432:app:anna:@": "pgp4ss",
    "curl -u anna:@ https://example.org": "curlp4ss",
    "sshpass -p @ ssh host": "sshp4ss",
    "Authorization: Basic @": base64.b64encode(b"anna:secretpw9").decode(),
    "Authorization: Bearer @": drawn(40),
    "CREATE USER x IDENTIFIED BY '@';": "sqlpw1",
    "| site | user | password |\n|---|---|---|\n| mail | anna | @ |\n": "tab1epw",
    "name,url,username,password\nmail,https://x,anna,@\n": "csvpw99",
}
SECRETS = [
    *((f"Here it is: {secret} and that is all.", secret) for secret in BY_SHAPE.values()),
    *((place.replace("@", secret, 1), secret) for place, secret in {**BY_NAME, **BY_PLACE}.items()),
]
NONE = [
    "The password was long forgotten, and nobody knew the secret of the key.",
    "Password: the word that lets you in. It must be at least eight characters long.",
    "Her secret: she had never been to Rome. As a token of thanks: a kiss.",
    "The password is stored in the drawer, and the password is wrong.",
    "Passwords must not be shared; a passphrase of several words is best.",
    "def login(user: str, password: str = None, token: Optional[str] = None) -> bool:",
    'password = os.environ["DB_PASSWORD"]',
    "password = getpass.getpass()",
    "this.password = password;",
    "String password = request.getPassword();",
    "password: your-password-here",
    "password: <your password>",
    "DB_PASSWORD=${DB_PASSWORD}",
    'token = tokenizer.encode("hello")[0]',
    "max_tokens = 4096",
    "api_key = config.api_key",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIPublicKeysAreNoSecrets anna@example.org",
    "https://anna@example.org/inbox and https://example.org:8080/@anna",
    "commit 2fd4e1c67a2d28fced849ee1bb76e7391b93eb12 of scikit-learn, sk-learn and task-force-2024-of-the-town",
    "see isbn 978-3-16-148410-0, tel. +49 30 1234567, DE89 3704 0044 0532 0130 00",
    "She threw an incomplete pass on 4th-and-goal.",
    "1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2 is an address, and 5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTK none",
    "12:30:45:500: worker started",
    "user, password, and so on,\nor nothing, whatever, in any case, it is, as it is\n",
]


@pytest.mark.parametrize(("text", "secret"), SECRETS, ids=lambda value: value.split("\n")[0][:40])
def test_a_secret_goes_with_its_line_and_the_lines_around_it_stay(text, secret):
    whole = f"Dear Anna,\n{text}\nYours, Ben"
    found = cleaned(whole)

    assert (
        len(secret) > LEAST or secret in cleaned(whole, keep_secrets=True).text
    )  # longer ones are encoded data anyway
    assert secret not in found.text
    assert found.text.startswith("Dear Anna,\n")
    assert found.text.endswith("Yours, Ben")
    assert sum(found.left_out.values()) >= len(secret)


def test_what_people_and_programs_write_stays():
    assert [text for text in NONE if cleaned(text).left_out] == []
    assert not cleaned("\n".join(NONE)).left_out


def test_of_a_paragraph_the_secret_alone_goes():
    paragraph = "It rained all day, and we stayed in. " * 10
    token = BY_SHAPE["github"]
    found = cleaned(f"{paragraph}Use {token} for it. {paragraph}")

    assert found.text == f"{paragraph}Use  for it. {paragraph}"
    assert len(paragraph) > WHOLE_LINE


def test_no_secret_survives_in_any_document_of_any_format_but_for_those_who_say_so(tmp_path):
    whole = "\n\n".join(f"A remark on it.\n{text}" for text, _ in SECRETS)
    cells = [{"cell_type": "code", "source": text.splitlines(keepends=True)} for text, _ in SECRETS]
    (tmp_path / "notes.md").write_text(whole)
    (tmp_path / "windows.txt").write_bytes(whole.replace("\n", "\r\n").encode("utf-16"))
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in SECRETS))
    (tmp_path / "book.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells}))
    (tmp_path / "mail.eml").write_text(f"From: anna@example.org\nSubject: it\n\n{whole}")
    token = "ghp_Zk3nQ8v2Lw9xT4bR7cY1mH6dF0pJ5sGaBcDe"
    with_secrets = {"user": "anna", "password": "t00lpassw", "pin": 471193, "scopes": {token: {"all": 1}}}
    called = {"function": {"name": "log_in", "arguments": json.dumps(with_secrets)}}
    chats = [
        [
            {"role": "user", "content": f"Is it this?\n{text}"},
            {
                "role": "assistant",
                "content": f"Yes:\n{text}\nand no more.",
                "tool_calls": [{"type": "function", **called}],
            },
        ]
        for text, _ in SECRETS
    ]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    (tmp_path / "prod.env").write_text("NAME=anna\nDEBUG=1\n")
    documents, report = read_documents([tmp_path])
    kept, _ = read_documents([tmp_path], keep_secrets=True)
    whole = "".join(f"{document.text}{document.turns}" for document in documents)
    survived = {
        secret for secret in [*(secret for _, secret in SECRETS), "t00lpassw", "471193", token] if secret in whole
    }

    assert survived == set()
    assert {entry.path.rpartition("/")[2]: entry.reason for entry in report.entries if entry.reason} == {
        "prod.env": REASON,
        "windows.txt": "duplicate",
    }
    assert report.left_out[REASON] > 0
    assert report.conversations > 0
    assert "log_in" in whole
    assert sum("A remark on it." in document.text for document in documents) >= 2
    assert len({secret for _, secret in SECRETS for document in kept if secret in document.text}) > 0.9 * len(SECRETS)


def test_a_checksum_tells_a_bitcoin_key():
    assert is_base58check("5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTJ")  # of the Bitcoin wiki
    assert not is_base58check("5HueCGU8rMjxEXxiPuD5BDku4MkFqeZyd4dZ1jvhTVqvbTLvyTK")


@pytest.mark.parametrize(
    "piece",
    ["password", "password:", "password: a", "password for x", "passwordpassword=", "eyJaaaaaaaaaaa.", "-eyJ", "sk-a",
     "curl -u a ", "curl -u a:", "://a:b", "://", "machine a login b ", "a:1:b:c:", "5K", "$1$a", "token|", "pass|\n",
     "password,\n", "your_", "_", "key=", "İpassword:", "password: a.b.c(", "bearer aaaa", "1" * 60, "1:AA", "| pin | a |\n"],
)  # fmt: skip
def test_no_text_takes_more_than_linear_time(piece):
    text, begun = piece * (30_000 // len(piece)), time.process_time()
    cleaned(text)

    assert time.process_time() - begun < 2.0
