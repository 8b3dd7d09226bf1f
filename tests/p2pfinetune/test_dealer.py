"""The record of what was dealt: durable, checked, and never silently another dealing."""

from __future__ import annotations

import json
import os
import random
import shutil

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from p2pfinetune.data import dealt as record
from p2pfinetune.data import token_cache
from p2pfinetune.data.corpus import prepare
from p2pfinetune.data.dealer import Dealer, owner_of
from p2pfinetune.data.dealt import Dealt, NoRecordError, sketched
from p2pfinetune.data.documents import Document
from p2pfinetune.data.near_duplicates import sequences
from p2pfinetune.data.splits import SPLITS, split_of
from p2pfinetune.data.token_cache import Entry
from p2pfinetune.data.tokens import TokenDocument
from p2pfinetune.errors import TextError, TooLittleText
from p2pfinetune.names import Digest

SALT = "user-1"


@pytest.fixture(scope="module")
def tokenizer():
    """A token a byte."""
    names = {name: i for i, name in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=names, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made)


def write_notes(folder, count, *, start=0, length=500):
    folder.mkdir(exist_ok=True)
    for i in range(start, start + count):
        dice = random.Random(i)
        (folder / f"note-{i}.txt").write_text("".join(dice.choices("abcdefgh ", k=length)).strip() + f" {i}")


class Home:
    """One user's folders, read again and again by programs that begin anew."""

    def __init__(self, folder, tokenizer):
        self.notes, self.cache, self.splits = folder / "notes", folder / "cache", folder / "splits.record"
        self.tokenizer = tokenizer
        write_notes(self.notes, 10, length=2000)

    def read(self, *, has_learnt=True):
        """The texts in each split."""
        self.dealer = Dealer.open(SALT, self.splits, self.cache, has_learnt=has_learnt)
        digest = Digest("0" * 64)
        self.corpus = prepare(
            [self.notes],
            self.tokenizer,
            tokenizer_digest=digest,
            cache=self.cache,
            context=256,
            salt=SALT,
            dealer=self.dealer,
        )
        splits = {split: self.corpus.split(split) for split in SPLITS}
        return {name: {self.tokenizer.decode(s.document(i)) for i in range(s.documents)} for name, s in splits.items()}

    def is_by_hash(self, found):
        """Whether every document is where its hash says."""
        return all(split_of(record_id(t), SALT) == split for split, texts in found.items() for t in texts)

    def damage(self, at=200):
        data = bytearray(self.splits.read_bytes())
        data[at] ^= 1
        self.splits.write_bytes(data)

    def pretend_old(self, found):
        """The cache as the version before left it: exceptions in a file, documents in the index."""
        self.splits.unlink()
        placed = {record_id(text): split for split, texts in found.items() for text in texts}
        moved = {d: split for d, split in placed.items() if split_of(d, SALT) != split}
        assert moved
        (self.cache / f"moved-{owner_of(SALT)}.json").write_text(json.dumps(moved))


def record_id(text):
    return Document.of(text, "").id


@pytest.fixture
def home(tmp_path, tokenizer):
    return Home(tmp_path, tokenizer)


def test_what_is_held_out_stays_so_when_the_cache_is_deleted_between_two_starts(home):
    first = home.read(has_learnt=False)
    assert not home.is_by_hash(first)  # a small collection has exceptions
    shutil.rmtree(home.cache)
    write_notes(home.notes, 30, start=100)
    second = home.read()

    assert all(first[split] <= second[split] for split in SPLITS)


def test_a_lost_record_is_made_again_from_the_cache_and_said(home):
    first = home.read(has_learnt=False)
    home.splits.unlink()

    assert home.read() == first
    assert "was made again from the token cache: it is gone" in home.dealer.notice
    assert "may be held out though it was trained on" in home.dealer.notice
    assert home.splits.exists()


@pytest.mark.parametrize("how", ["gone", "damaged", "emptied", "another's"])
def test_without_record_and_cache_a_home_that_has_learnt_is_refused_with_what_to_do(home, how):
    home.read(has_learnt=False)
    shutil.rmtree(home.cache)
    match how:
        case "gone":
            home.splits.unlink()
        case "damaged":
            home.damage()
        case "emptied":
            home.splits.write_bytes(b"")
        case _:
            record.write(home.splits, owner_of("other"), {})
    before = home.splits.read_bytes() if home.splits.exists() else None

    with pytest.raises(TextError, match=r"record of which documents are held out.*splits\.record") as caught:
        home.read()
    assert "peerd start --home ANOTHER-FOLDER" in caught.value.hint
    assert before is None or home.splits.read_bytes() == before


def test_a_damaged_record_of_a_home_that_has_learnt_nothing_is_kept_aside_and_said(home):
    first = home.read(has_learnt=False)
    home.damage()

    assert home.read(has_learnt=False) == first
    assert "nothing was learnt yet: it is damaged" in home.dealer.notice
    assert home.splits.with_name("splits.record.bak").exists()


def test_any_flipped_bit_is_noticed(home):
    home.read(has_learnt=False)
    for at in range(0, home.splits.stat().st_size, 97):
        home.damage(at)
        with pytest.raises(NoRecordError):
            record.read(home.splits, owner_of(SALT))
        home.damage(at)
    record.read(home.splits, owner_of(SALT))


@pytest.mark.parametrize("checksum", [record._checksum, lambda *_: "of another kind"])
def test_a_record_of_a_newer_version_is_refused_and_left_as_it_is(home, monkeypatch, checksum):
    home.read(has_learnt=False)
    with monkeypatch.context() as patched:
        patched.setattr(record, "FORMAT", 2)
        patched.setattr(record, "_checksum", checksum)
        record.write(home.splits, owner_of(SALT), {})
    before = home.splits.read_bytes()

    with pytest.raises(TextError, match="newer version"):
        home.read()
    assert home.splits.read_bytes() == before


@pytest.mark.parametrize("what", ["exceptions and corpora", "exceptions alone"])
def test_the_exceptions_of_an_older_version_are_taken_over(home, what):
    first = home.read(has_learnt=False)
    home.pretend_old(first)
    if what == "exceptions alone":
        for folder in home.cache.glob(f"{owner_of(SALT)}-*"):
            shutil.rmtree(folder)

    assert home.read() == first
    shutil.rmtree(home.cache)
    assert home.read() == first


def test_copies_that_an_older_version_trained_on_and_held_out_are_held_out_no_more(home):
    words = [f"word{i}" for i in range(300)]
    write_notes(home.notes, 40, start=200)
    (home.notes / "a.txt").write_text(" ".join(words))
    (home.notes / "b.txt").write_text(" ".join([*words[:290], "another", "end"]))
    first = home.read(has_learnt=False)
    texts = [t for found in first.values() for t in found if t.startswith("word0")]
    placed = {record_id(t): split for split, found in first.items() for t in found} | {
        record_id(texts[0]): "train",
        record_id(texts[1]): "guard",
    }
    home.splits.unlink()
    shutil.rmtree(home.cache)
    home.cache.mkdir()
    (home.cache / f"moved-{owner_of(SALT)}.json").write_text(json.dumps(placed))
    second = home.read()

    assert texts[0] in second["train"]
    assert not any(texts[1] in found for found in second.values())


def test_what_was_trained_on_since_a_record_was_backed_up_is_not_held_out_when_it_is_put_back(home):
    home.read(has_learnt=False)
    before, dice = home.splits.read_bytes(), random.Random(3)

    def words(count):
        return " ".join("".join(dice.choices("abcdefghij", k=5)) for _ in range(count))

    held_out = "train"
    for _ in range(100):  # one that is held out by its hash, and trained on since it is a version of what is
        text = words(200)
        held_out = split_of(record_id(text + " " + (tail := words(150))), SALT)
        if held_out != "train" and split_of(record_id(text), SALT) == "train":
            break
    (home.notes / "essay.txt").write_text(text)
    home.read()
    (home.notes / "essay.txt").write_text(essay := text + " " + tail)
    assert essay in home.read()["train"]
    home.splits.write_bytes(before)

    assert essay in home.read()["train"]
    assert "is older than what was learnt" in home.dealer.notice
    home.read()
    assert not home.dealer.notice


def test_what_was_trained_on_and_is_away_when_a_lost_record_is_made_again_is_not_held_out_later(home):
    write_notes(home.notes, 30, start=100)
    first = home.read(has_learnt=False)
    away = next(path for path in sorted(home.notes.iterdir()) if path.read_text() in first["train"])
    text = away.read_text()
    away.unlink()
    home.splits.unlink()
    home.read()
    shutil.rmtree(home.cache)

    assert record.read(home.splits, owner_of(SALT))[record_id(text)].split == "train"


def test_what_was_trained_on_in_any_corpus_of_the_cache_counts_as_trained_on(tmp_path):
    entry, tokens = Entry("a" * 64, 2, ""), TokenDocument(np.array([1, 2], np.uint16))
    nothing = {split: [] for split in SPLITS}
    for age, split in enumerate(("train", "guard")):
        folder = tmp_path / f"me-{age}"
        token_cache.write(folder, nothing | {split: [(entry, tokens)]}, "uint16", "")
        os.utime(folder, (age, age))

    assert token_cache.splits_by_document(tmp_path, "me") == {"a" * 64: "train"}


def test_a_record_that_vanishes_while_the_program_runs_is_written_again(home):
    first = home.read(has_learnt=False)
    home.splits.unlink()
    home.dealer.keep(dict(home.dealer.rows))

    assert home.read() == first
    assert not home.dealer.notice


def test_an_interrupted_write_leaves_the_record_as_it_was(home, monkeypatch):
    home.read(has_learnt=False)
    before = home.splits.read_bytes()
    write_notes(home.notes, 5, start=100)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))

    with pytest.raises(TextError, match=r"splits\.record.*No space left"):
        home.read()
    assert home.splits.read_bytes() == before
    assert not list(home.splits.parent.glob("*.temp"))


def test_what_was_trained_on_is_not_held_out_when_the_held_out_text_is_deleted(home):
    first = home.read(has_learnt=False)
    for path in home.notes.iterdir():
        if path.read_text() in first["guard"]:
            path.unlink()

    with pytest.raises(TooLittleText, match="guard 0 of 512") as caught:
        home.read()
    assert "has to be new text" in caught.value.hint


def test_a_collection_of_versions_of_one_text_is_refused_with_the_reason(home):
    original = " ".join(f"word{i}" for i in range(600))
    for path in home.notes.iterdir():
        path.write_text(original.replace("word30", path.stem))

    with pytest.raises(TooLittleText, match="10 documents kept in one split with near copies") as caught:
        home.read(has_learnt=False)
    assert "near copies stay together" in caught.value.hint
    assert not home.splits.exists()


def test_near_copies_are_told_in_the_report(home):
    original = (home.notes / "note-0.txt").read_text()
    (home.notes / "copy of note.txt").write_text(original + " and more")
    home.read(has_learnt=False)
    home.read()
    report = home.corpus.report

    assert report.copies.together == 2
    assert "2 documents kept in one split with near copies" in " ".join(report.sentences())


def test_what_is_recorded_comes_back(tmp_path):
    found = [sequences(text) for text in ("", "a few words", " ".join(f"word{i}" for i in range(99)))]
    rows = {
        Digest(f"{i:064x}"): Dealt(split, i % 2 == 0, len(found[i % 3]), sketched(found[i % 3]))
        for i, split in enumerate([*SPLITS, None])
    }
    record.write(tmp_path / "record", "me", rows)
    back = record.read(tmp_path / "record", "me")

    assert {d: (r.split, r.is_near, r.count, r.sketch.tolist()) for d, r in back.items()} == {
        d: (r.split, r.is_near, r.count, r.sketch.tolist()) for d, r in rows.items()
    }
    record.write(tmp_path / "record", "me", {})
    assert record.read(tmp_path / "record", "me") == {}
