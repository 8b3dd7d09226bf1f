"""Nothing of peerd's own is trained on, wherever it lies and whatever it is called; notes beside it are."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from p2pfinetune.data.documents import read_documents
from p2pfinetune.data.own_files import CACHE, MODEL, OWN, is_log, left_out
from peerd.machine.logs import OneLine
from peerd.machine.paths import Paths

LOG = "2026-11-28T14:12:14Z info    daemon: starting version=0.1.0 pid=2 home=/x\n2026-11-28T14:12:51Z info    daemon: hm\n"


def write(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"the text of {path}")


def make_home(home):
    """All that a daemon leaves there, as text: what is in a file of the wrong kind must not matter."""
    paths = Paths.of(home)
    for path in (paths.config, paths.identity, paths.database, paths.log, paths.lock, paths.splits):
        write(home, path.relative_to(home))
    write(home, "state.db-wal", "state.db.damaged-1", "config.toml.bak", "peerd.log.1", "splits.record.bak")
    write(home, f"blobs/{'a' * 64}", "scratch/7-1.checkpoint", f"cache/tokens/{'a' * 12}-{'b' * 32}/index.json")
    write(home, "reports/demo/result.json", f"cache/tensors-{'c' * 32}.json")


def read(folder):
    documents, report = read_documents([folder])
    return [document.text for document in documents], {
        reason: sorted(path.removeprefix(f"{folder}/") for path in paths) for reason, paths in report.skipped.items()
    }


def test_a_home_inside_the_data_is_left_out_whole_and_so_is_that_of_somebody_else(tmp_path):
    make_home(tmp_path / "Library" / "Application Support" / "peerd")
    make_home(tmp_path / "backup" / "old-peer")
    write(tmp_path, "note.txt")

    assert read(tmp_path) == (
        [f"the text of {tmp_path}/note.txt"],
        {OWN: ["Library/Application Support/peerd", "backup/old-peer"]},
    )


def test_of_a_home_that_was_made_among_notes_the_notes_are_read_and_nothing_else(tmp_path):
    make_home(tmp_path)
    write(tmp_path, "diary/monday.txt", "config.md")
    texts, skipped = read(tmp_path)

    assert texts == [f"the text of {tmp_path}/config.md", f"the text of {tmp_path}/diary/monday.txt"]
    assert list(skipped) == [OWN]


def test_a_home_that_has_never_been_started_is_known_and_a_folder_with_a_configuration_is_not_one(tmp_path):
    write(tmp_path, "homes/ada/identity.key", "homes/ada/config.toml", "tool/config.toml", "tool/cache/a.txt")

    assert read(tmp_path)[1] == {OWN: ["homes/ada"]}


def test_a_cache_and_a_log_that_lie_apart_from_their_home_are_known(tmp_path):
    write(tmp_path, f"Caches/peerd/tokens/{'a' * 12}-{'b' * 32}/index.json", f"Caches/peerd/tensors-{'c' * 32}.json")
    write(tmp_path, "Logs/peerd/peerd.log", "Logs/peerd/peerd.log.1", "Logs/other.log")
    write(tmp_path, "target/CACHEDIR.TAG", "target/a.txt")
    (tmp_path / "out.txt").write_text(LOG)
    texts, skipped = read(tmp_path)

    assert texts == [f"the text of {tmp_path}/Logs/other.log"]
    assert skipped == {
        OWN: [f"Caches/peerd/tensors-{'c' * 32}.json", "Caches/peerd/tokens", "Logs/peerd", "out.txt"],
        CACHE: ["target"],
    }


def test_an_export_a_model_and_a_report_are_no_text_and_a_note_beside_them_is(tmp_path):
    write(
        tmp_path, "mine/adapter_config.json", "mine/adapter_model.safetensors", "mine/tokenizer.json", "mine/README.md"
    )
    write(tmp_path, "vault/adapter_config.json", "vault/adapter_model.safetensors", "vault/README.md", "vault/a.md")
    write(tmp_path, "gpt/config.json", "gpt/model.safetensors", "gpt/vocab.json", "gpt/merges.txt")
    write(tmp_path, "demo/result.json", "demo/perplexity.csv", "demo/trust.csv", "demo/rounds.jsonl", "demo/logs/a.log")
    texts, skipped = read(tmp_path)

    assert texts == [f"the text of {tmp_path}/vault/README.md", f"the text of {tmp_path}/vault/a.md"]
    assert skipped == {
        OWN: ["demo"],
        MODEL: ["gpt", "mine", "vault/adapter_config.json", "vault/adapter_model.safetensors"],
    }


def test_every_path_of_a_home_is_known_as_one(tmp_path):
    names = [path.name for path in map(Path, Paths.of(tmp_path).named().values()) if path.parent == tmp_path]

    assert left_out(names).keys() == set(names)


def test_the_log_is_known_by_its_first_line():
    record = logging.makeLogRecord({"name": "peerd.daemon", "levelname": "INFO", "msg": "starting", "version": "0.1.0"})
    line = OneLine().format(record)

    assert is_log(line)
    assert not is_log(f"He wrote: {line}")


@pytest.mark.parametrize(
    "names",
    [
        ["config.json", "notes.md"],
        ["result.json", "trust.csv", "a.txt"],
        ["cache", "reports", "scratch", "blobs"],
        ["vocab.txt", "README.md"],
        ["state.db", "notes.md"],
        ["logs", "text", "homes", "letters"],
    ],
)
def test_folders_of_people_are_not_taken_for_ours(names):
    assert left_out(names) == {}
