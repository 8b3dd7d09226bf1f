"""`peerd data` on a folder as people have them: the report says what became of every file."""

from __future__ import annotations

import base64
import json
import random
import textwrap
from pathlib import Path
from typing import Any

import msgspec
import pytest

from p2pfinetune.data import dealt as record
from p2pfinetune.data.dealer import Dealer, owner_of
from p2pfinetune.data.documents import read_documents
from p2pfinetune.data.splits import SPLITS
from peerd.cli import main
from peerd.cli.waiting import shown_progress
from peerd.control.answers import DataLooked
from peerd.machine.paths import Paths
from peerd.wire.keys import PeerKey
from tests.p2pfinetune.foreign_texts import page

NOISE = random.Random(7).randbytes(9000)
ATTACHED = "\n".join(textwrap.wrap(base64.b64encode(NOISE).decode(), 76))
ESSAY = "\n\n".join(
    f"On the {i}th evening we sat by the river, and {who} told of the year in which {what}."
    for i, (who, what) in enumerate(
        zip(
            ["Anna", "the miller", "an old man", "my aunt", "Tom"] * 4,
            ["it snowed in June", "the bridge fell"] * 10,
            strict=True,
        )
    )
)


def mail(subject: str, text: str, attached: str = "") -> str:
    part = (
        f"--b\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\n{attached}\n\n--b--\n" if attached else ""
    )
    return f"From ben@example.org Mon Jan  1 10:00:00 2024\nSubject: {subject}\n\n{text}\n\n{part}\n"


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Mails, a vault, old encodings, near copies, a key, and the home of the daemon."""
    data = tmp_path / "data"
    write(data / "mail/inbox.mbox", mail("Plans", "Dear Anna,\nthe plans are attached.", ATTACHED) * 2)
    write(data / "mail/cur/1.eml", mail("Re: your essay", f"I like it!\n\n{ESSAY}"))
    write(data / "vault/essay.md", ESSAY)
    write(data / "vault/essay, corrected.md", ESSAY.replace("Tom", "Thomas"))
    write(data / "vault/the same.md", ESSAY)
    cells = [
        {"cell_type": "code", "source": ["rain.plot()"], "outputs": [{"data": {"image/png": ATTACHED}}]},
        {"cell_type": "markdown", "source": ["It rains."]},
    ]
    write(data / "vault/rain.ipynb", json.dumps({"cells": cells, "nbformat": 4}))
    write(data / "vault/adapter/adapter_config.json", '{"peft_type": "LORA"}')
    write(data / "vault/adapter/adapter_model.safetensors", bytes(100))
    write(data / "old/polish.txt", page("Polish").encode("iso8859_2"))
    write(data / "older/russian.txt", page("Russian").encode("koi8_r"))
    write(data / "oldest/japanese.txt", page("Japanese").encode("shift_jis"))
    write(data / "broken.txt", b"A letter with one b\xe4d byte in it, caf\xc3\xa9 and all.\n" * 3)
    write(data / "chat.jsonl", '{"text": "hello there"}\n{"id": 1}\n')
    write(data / "id_ed25519", f"-----BEGIN OPENSSH PRIVATE KEY-----\n{ATTACHED}\n-----END OPENSSH PRIVATE KEY-----\n")
    write(data / "photo.jpg", b"\xff\xd8\xff\xe0\0\0" + NOISE)
    write(data / "nothing.txt", "")
    write(data / ".git/config", "hidden")
    home = Paths.of(data / "Library/Application Support/peerd")
    write(home.config, 'name = "ada"\n')
    for path in (home.database, home.log):
        write(path, "2026-11-28T14:12:14Z info    daemon: starting version=0.1.0\n")
    write(home.cache / "tokens/index.json", "{}")
    PeerKey.load_or_create(home.identity)
    return data


def looked(capsys: Any, *words: object) -> str:
    assert main(["data", *map(str, words)]) == 0
    return str(capsys.readouterr().out)


def test_of_mails_a_vault_old_encodings_near_copies_and_the_home_every_files_fate_is_told(
    folder: Path, capsys: Any
) -> None:
    found = json.loads(
        looked(capsys, "--data", folder, "--home", folder / "Library/Application Support/peerd", "--json")
    )
    told = msgspec.convert(found["data"], DataLooked)
    files = {file.path.removeprefix(f"{folder}/"): file for file in told.files}

    assert {path: file.reason for path, file in files.items() if file.reason} == {
        ".git": "hidden",
        "Library/Application Support/peerd": "peerd's own files",
        "vault/adapter": "a model's files",
        "vault/the same.md": "duplicate",
        "id_ed25519": "key or certificate",
        "photo.jpg": "not text",
        "nothing.txt": "empty",
    }
    assert {path: file.encoding for path, file in files.items() if not file.reason} == {
        "mail/inbox.mbox": "utf-8",
        "mail/cur/1.eml": "utf-8",
        "vault/essay.md": "utf-8",
        "vault/essay, corrected.md": "utf-8",
        "vault/rain.ipynb": "utf-8",
        "old/polish.txt": "iso8859-2",
        "older/russian.txt": "koi8-r",
        "oldest/japanese.txt": "cp932",
        "broken.txt": "utf-8",
        "chat.jsonl": "utf-8",
    }
    assert sorted(path for path, file in files.items() if file.near_copies) == [
        "mail/cur/1.eml",
        "vault/essay, corrected.md",
        "vault/essay.md",
    ]
    assert files["mail/inbox.mbox"].left_out["base64 or hexadecimal"] > 2 * 12_000 - 100
    assert files["mail/inbox.mbox"].characters < 700
    assert list(files["vault/rain.ipynb"].left_out) == ["notebook outputs"]
    assert files["vault/rain.ipynb"].characters == len("rain.plot()\n\nIt rains.")
    assert (files["broken.txt"].replaced, files["chat.jsonl"].bad_rows, files["vault/the same.md"].repeated) == (
        3,
        1,
        1,
    )
    assert all(file.new == sum(file.splits.values()) == file.documents for file in told.files if not file.reason)
    assert files["vault/the same.md"].equal_to == [f"{folder}/vault/essay.md"]
    assert files["vault/essay.md"].near_to == [f"{folder}/mail/cur/1.eml", f"{folder}/vault/essay, corrected.md"]
    assert sum(file.tokens for file in told.files) == sum(told.tokens.values()) > 1000
    assert (told.model, told.has_home, told.new) == ("nano", True, told.text.documents)
    assert (told.text.files, told.text.documents) == (10, sum(file.documents for file in told.files))
    assert told.text.skipped["peerd's own files"] == 1


def test_people_are_told_the_same_in_a_line_a_file(folder: Path, capsys: Any) -> None:
    out = looked(capsys, "--data", folder, "--home", folder / "none")
    lines = out.split("\n")

    assert f"left out  {folder}/vault/the same.md: duplicate of {folder}/vault/essay.md" in lines
    assert f"left out  {folder}/id_ed25519: key or certificate" in lines
    assert f"left out  {folder}/Library/Application Support/peerd: peerd's own files" in lines
    assert any(
        line.startswith(f"used      {folder}/vault/rain.ipynb: 1 document, ") and " tokens, utf-8; " in line
        for line in lines
    )
    assert any("koi8-r (guessed)" in line for line in lines)
    assert any("left out of it: base64 or hexadecimal" in line for line in lines)
    assert "Files and folders left out: a model's files 1, duplicate 1, empty 1, hidden 1," in out
    assert not (folder / "none").exists()


def test_what_the_daemon_has_dealt_is_shown_by_split(folder: Path, capsys: Any) -> None:
    home = Paths.of(folder / "Library/Application Support/peerd")
    salt = PeerKey.load_or_create(home.identity).peer_id
    documents, _ = read_documents([folder / "vault"])
    rows = Dealer(salt).deal(documents, {document.id: 100 for document in documents}, dict.fromkeys(SPLITS, 0))
    record.write(home.splits, owner_of(salt), rows)
    told = json.loads(
        looked(capsys, "--data", folder / "vault", "--data", folder / "old", "--home", home.home, "--json")
    )
    splits = {file["path"].rpartition("/")[2]: file["splits"] for file in told["data"]["files"] if not file["reason"]}

    assert {file["path"].rpartition("/")[2]: file["new"] for file in told["data"]["files"]}["polish.txt"] == 1
    assert record.read(home.splits, owner_of(salt)).keys() == rows.keys()
    assert set(splits["essay.md"]) <= set(SPLITS)
    assert splits["essay.md"] == splits["essay, corrected.md"]


def test_of_a_home_whose_record_is_damaged_no_document_is_called_new(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "note.txt").write_text("It rained all day.")
    home = Paths.of(tmp_path / "home")
    PeerKey.load_or_create(home.identity)
    home.splits.write_bytes(b"nonsense")

    assert main(["data", "--home", str(home.home), "--data", str(tmp_path / "note.txt")]) == 2
    told = capsys.readouterr()
    assert "used" not in told.out
    assert f"{home.splits}, cannot be used: it is damaged" in told.err
    assert main(["data", "--home", str(tmp_path / "none"), "--data", str(tmp_path / "note.txt")]) == 0


def test_without_data_it_says_what_to_type(tmp_path: Path, capsys: Any) -> None:
    assert main(["data", "--home", str(tmp_path)]) == 2
    assert "name a file or folder" in capsys.readouterr().err
    assert main(["data", "--home", str(tmp_path), "--data", str(tmp_path / "gone")]) == 2


def test_what_is_said_of_encodings_is_tried_without_a_daemon(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "open.txt").write_bytes("već".encode("cp1250"))
    words = ("--data", tmp_path, "--home", tmp_path / "none")

    assert "open.txt: unknown encoding; it may be cp1250 or " in looked(capsys, *words)
    assert ", cp852; " in looked(capsys, *words, "--encoding", f"{tmp_path}=cp852")
    assert main(["data", *map(str, words), "--encoding", "klingon"]) == 2


def test_examples_are_shown_as_the_model_sees_them_and_nothing_hides_in_a_terminal(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "note.txt").write_text("Tab\there, \u202eturned there.\nIt says <|endoftext|> itself. " * 40)
    out = looked(capsys, "--data", tmp_path / "note.txt", "--home", tmp_path / "none", "--show", "1")
    shown = out.partition("\n")[2]

    assert out.startswith(f"--- {tmp_path}/note.txt: train, ")
    assert shown.startswith("Tab\there, \\u202eturned there.\nIt says <|endoftext|> itself. Tab")
    assert "itself. \n" not in shown
    assert "itself.<|endoftext|>\n" in shown  # the one that the tokenizer puts behind a text
    assert "Not enough to start: too little text: " in out
    assert "which documents are held out is decided by the first start" in out
    assert not (tmp_path / "none").exists()


def test_a_reading_that_lasts_says_how_far_it_is_on_standard_error_alone(capsys: Any, monkeypatch: Any) -> None:
    clock = iter([0.0, 5.0, 12.0, 12.0, 13.0, 25.0, 25.0])
    monkeypatch.setattr("peerd.cli.waiting.time.monotonic", lambda: next(clock))
    with shown_progress() as tell:
        for done in range(4):
            tell("reading files", 1000 * done, 31_200)
    told = capsys.readouterr()

    assert told.out == ""
    assert told.err.split("\n") == ["reading files: 1,000 of 31,200", "reading files: 3,000 of 31,200", ""]


def test_of_a_conversation_what_is_not_learnt_is_marked(tmp_path: Path, capsys: Any) -> None:
    turns = [{"role": "user", "content": "What is a fen?"}, {"role": "assistant", "content": "A wet meadow."}]
    (tmp_path / "chats.jsonl").write_text(json.dumps({"messages": turns}) + "\n")
    words = ("--data", tmp_path, "--home", tmp_path / "none", "--show", "5")
    out = looked(capsys, *words)
    told = msgspec.convert(json.loads(looked(capsys, *words, "--json"))["data"], DataLooked)

    assert out.startswith("What is read and not learnt is dim at a terminal, and between ⟪ and ⟫ elsewhere.\n\n---")
    assert "⟪User: What is a fen?\n\nAssistant:⟫ A wet meadow.<|endoftext|>\n" in out
    assert "1 conversation, loss on answers." in out
    assert [(part.text, part.is_learnt) for part in told.examples[0].parts] == [
        ("User: What is a fen?\n\nAssistant:", False),
        (" A wet meadow.<|endoftext|>", True),
    ]
    assert (told.files[0].conversations, told.files[0].tokens) == (1, told.examples[0].learnt)
    assert "1 conversation, loss on all that is said." in looked(capsys, *words, "--loss", "all")
