"""What a reading would come to is what the next one comes to, and is known without weights and written nowhere."""

from __future__ import annotations

import random

import pytest

from p2pfinetune import nano
from p2pfinetune.data import dealt as record
from p2pfinetune.data.corpus import prepare
from p2pfinetune.data.dealer import Dealer, owner_of
from p2pfinetune.data.documents import read_documents
from p2pfinetune.data.foresight import foreseen
from p2pfinetune.data.splits import SPLITS
from p2pfinetune.data.telling import ENCODING, FINDING, READING
from p2pfinetune.errors import ModelError
from p2pfinetune.model.base import load_tokenizer
from p2pfinetune.names import Digest

CONTEXT = 32


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("nano")


@pytest.fixture
def notes(tmp_path):
    words = [line.split()[0] for line in nano.__doc__.split("\n") if line.split()]
    words += [f"{a}{b}" for a in ("moon", "river", "miller", "bridge") for b in ("light", "s", "side", "house")]
    for i in range(40):
        (tmp_path / f"note-{i}.txt").write_text(" ".join(random.Random(i).choices(words, k=60)))
    (tmp_path / "note-1b.txt").write_text((tmp_path / "note-1.txt").read_text() + " And so on.")
    return tmp_path


def test_documents_go_where_it_was_foreseen(notes, tokenizer, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    before = foreseen(*read_documents([notes]), tokenizer, Dealer("me"), context=CONTEXT)
    corpus = prepare(
        [notes],
        tokenizer,
        tokenizer_digest=Digest("0" * 64),
        cache=home / "cache",
        context=CONTEXT,
        salt="me",
        dealer=Dealer("me", home / "splits.record"),
    )
    rows = record.read(home / "splits.record", owner_of("me"))
    after = foreseen(*read_documents([notes]), tokenizer, Dealer("me", rows=dict(rows)), context=CONTEXT)

    for found in (before, after):
        assert {d: row.split for d, row in found.rows.items()} == {d: row.split for d, row in rows.items()}
        assert found.tokens_by_split() == {split: len(corpus.split(split).tokens) for split in SPLITS}
        assert [sorted(found.documents[d].source[-8:] for d in members) for members in found.groups] == [
            ["e-1b.txt", "te-1.txt"]
        ]
        assert found.lacking == ""


def test_it_says_how_far_it_is_and_that_the_text_is_too_little(notes, tokenizer):
    told = []
    documents, report = read_documents([notes / "note-1.txt", notes / "note-2.txt"], tell=lambda *it: told.append(it))
    found = foreseen(documents, report, tokenizer, Dealer("me"), context=256, tell=lambda *it: told.append(it))

    assert found.lacking.startswith("too little text: ")
    assert [it for it in told if it[0] in {FINDING, READING}] == [
        (FINDING, 0, 0), (FINDING, 1, 0), (FINDING, 2, 2), (READING, 0, 2), (READING, 1, 2), (READING, 2, 2)
    ]  # fmt: skip
    assert (ENCODING, 2, 2) in told


def test_a_tokenizer_is_had_without_weights(tmp_path):
    for path in nano.folder().iterdir():
        if path.suffix == ".json":
            (tmp_path / path.name).write_bytes(path.read_bytes())

    assert load_tokenizer(str(tmp_path))("It rains.") == load_tokenizer("nano")("It rains.")
    with pytest.raises(ModelError, match="there is no model folder"):
        load_tokenizer("no/such/folder")
