"""What only a store on disk has to survive: kills, full disks, flipped bits, other versions."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from p2pfinetune.names import Digest, PeerId, Round
from p2pfinetune.round.figures import LossMargin, RoundFigures, SplitFigures
from peerd.errors import StoreError
from peerd.status import PerplexityNow
from peerd.store.blobs import FileBlobs
from peerd.store.checksum import sealed, unsealed
from peerd.store.opening import VERSION_OFFSET
from peerd.store.port import Checkpoint
from peerd.store.rounds import StoredRound
from peerd.store.schema import VERSION
from peerd.store.sqlite import SqliteStore

BLOB = Digest("c" * 64)


def written(path: Path, rounds: int = 3) -> None:
    store = SqliteStore(path, epoch=5)
    for number in range(1, rounds + 1):
        store.save_checkpoint(Checkpoint(round=Round(number), trained=True, blob=BLOB))
    store.save_announcement(b"announcement")
    store.reserve_sequence()
    store.close()


def test_the_file_can_be_read_by_its_owner_alone(tmp_path: Path) -> None:
    written(tmp_path / "state.db")

    assert stat.S_IMODE((tmp_path / "state.db").stat().st_mode) == 0o600


def test_every_commit_is_synced_to_a_write_ahead_log(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db", epoch=5)

    assert store._connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._connection.execute("PRAGMA synchronous").fetchone() == (2,)
    store.close()


@pytest.mark.parametrize(("epoch", "begun"), [(99, 99), (5, 6), (1, 6)])
def test_each_opening_begins_an_epoch_above_those_before_it(tmp_path: Path, epoch: int, begun: int) -> None:
    written(tmp_path / "state.db")

    store = SqliteStore(tmp_path / "state.db", epoch=epoch)
    assert store.reserved() == (begun, 0)
    assert [store.reserve_sequence() for _ in range(2)] == [(begun, 1), (begun, 2)]
    assert store.notice == ""
    store.close()


def test_a_newer_database_is_refused_with_advice_and_left_untouched(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    written(path)
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = path.read_bytes()

    with pytest.raises(StoreError, match="newer peerd") as refusal:
        SqliteStore(path, epoch=6)

    assert "upgrade" in refusal.value.hint
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.db"]


def test_a_newer_version_that_stands_only_in_the_log_is_refused_too(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    written(path)
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")  # not checkpointed: the connection stays open
    before = path.read_bytes()

    with pytest.raises(StoreError, match="newer peerd"):
        SqliteStore(path, epoch=6)

    assert path.read_bytes() == before
    connection.close()


def damaged(data: bytes, how: str) -> bytes:
    match how:
        case "overwritten":
            return data[:100] + b"\xaa" * 200 + data[300:]
        case "zeros":
            return bytes(len(data))
        case "truncated":
            return data[: len(data) // 2 - 7]
        case "empty":
            return b""
        case "text":
            return b"Dear diary, this is no database.\n" * 40
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize("how", ["overwritten", "zeros", "truncated", "empty", "text"])
def test_a_damaged_database_is_moved_aside_and_said_so(tmp_path: Path, how: str) -> None:
    path = tmp_path / "state.db"
    written(path)
    broken = damaged(path.read_bytes(), how)
    path.write_bytes(broken)

    store = SqliteStore(path, epoch=6)

    assert str(path.with_name("state.db.bak")) in store.notice
    assert path.with_name("state.db.bak").read_bytes() == broken
    assert store.checkpoint() is None
    assert store.reserve_sequence()[0] == 6
    store.close()


def test_two_hundred_bytes_overwritten_anywhere_are_harmless_or_noticed(tmp_path: Path) -> None:
    written(tmp_path / "whole.db")
    data = (tmp_path / "whole.db").read_bytes()
    noticed = 0
    for place in range(150, len(data), 1900):
        path = tmp_path / f"{place}.db"
        path.write_bytes(data[:place] + b"\xaa" * 200 + data[place + 200 :])
        store = SqliteStore(path, epoch=99)
        checkpoint = store.checkpoint()
        noticed += bool(store.notice)

        assert bool(store.notice) == (checkpoint is None)
        assert store.reserve_sequence() > (5, 1)
        assert (store.rounds(), store.peers(), store.seen(), store.refusals()) == ([], [], {}, {})
        store.close()
    assert noticed > 1


def test_a_second_damaged_database_does_not_replace_the_first(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    for text in (b"first", b"second"):
        path.write_bytes(text)
        SqliteStore(path, epoch=6).close()

    assert (tmp_path / "state.db.bak").read_bytes() == b"first"
    assert (tmp_path / "state.db.bak2").read_bytes() == b"second"


def test_a_log_without_its_database_is_not_taken_for_that_of_a_new_one(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db", epoch=5)
    store.save_announcement(b"announcement")
    log = (tmp_path / "state.db-wal").read_bytes()
    store.close()
    (tmp_path / "state.db").unlink()
    (tmp_path / "state.db-wal").write_bytes(log)

    store = SqliteStore(tmp_path / "state.db", epoch=9)

    assert store.announcement() is None
    assert (tmp_path / "state.db.bak-wal").read_bytes() == log
    store.close()


def test_a_start_that_was_killed_while_it_made_the_database_is_no_damage(tmp_path: Path) -> None:
    for left in ("state.db.new", "state.db.new-wal"):
        (tmp_path / left).write_bytes(b"half")

    store = SqliteStore(tmp_path / "state.db", epoch=9)

    assert store.notice == ""
    store.close()
    assert [file.name for file in tmp_path.iterdir()] == ["state.db"]


def test_a_flipped_bit_in_the_checkpoint_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    written(path)
    data = path.read_bytes()
    place = data.index(BLOB.encode()) + 9
    path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])

    store = SqliteStore(path, epoch=6)

    assert "checksum" in store.notice
    assert store.checkpoint() is None
    store.close()


@pytest.mark.parametrize("name", ["sequence", "checkpoint", "spending"])
def test_what_is_whole_and_not_understood_is_said_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    path = tmp_path / "state.db"
    written(path)
    with closing(SqliteStore(path, epoch=6)) as store:
        store._save_document(name, b'{"of": "another version"}')
    before = path.read_bytes()

    with (
        pytest.raises(StoreError, match=f"the {name} in .* is not understood") as trouble,
        closing(SqliteStore(path, epoch=6)) as store,
    ):
        getattr(store, name)()

    assert "another version" in trouble.value.hint
    assert path.read_bytes() == before


def test_history_that_is_not_understood_is_left_out(tmp_path: Path) -> None:
    with closing(SqliteStore(tmp_path / "state.db", epoch=5)) as store:
        for table in ("publication (body)", "round (round, body)"):
            marks = "(?)" if "," not in table else "(1, ?)"
            store._connection.execute(f"INSERT INTO {table} VALUES {marks}", (sealed(b"[]"),))

        assert store.publications() == []
        assert store.rounds() == []


def test_a_round_that_an_older_version_recorded_is_shown_without_what_it_did_not_say(tmp_path: Path) -> None:
    kept = {
        "round": 3, "finished_unix": 9.0, "loss_train": 2.0, "loss_trust": 2.1, "guard_base": 4.0, "guard_own": 3.0,
        "guard_personal": 2.5, "guard_local": 2.75, "row": {"me": 0.5, "ben": 0.5}, "accepted": False,
        "reason": "worse-than-own", "steps": 20, "bytes_in": 1, "bytes_out": 2,
    }  # fmt: skip
    with closing(SqliteStore(tmp_path / "state.db", epoch=5)) as store:
        store._connection.execute("INSERT INTO round (round, body) VALUES (3, ?)", (sealed(json.dumps(kept).encode()),))

        (record,) = store.rounds()

    assert (record.round, record.accepted, record.reason, record.guard_twin) == (3, False, "worse-than-own", 2.75)
    assert (record.on_trust, record.on_guard) == (None, None)


def test_a_row_has_the_keys_that_versions_before_the_twin_had_its_name_look_for(tmp_path: Path) -> None:
    split = SplitFigures(tokens=1, documents=1, windows=1, against_twin=LossMargin(nats=-0.5))
    figures = RoundFigures(guard_twin=2.75, on_guard=split)
    record = StoredRound.of(
        figures, round=Round(1), finished_unix=1.0, row={}, accepted=True, reason="", steps=1, bytes_in=0, bytes_out=0
    )
    with closing(SqliteStore(tmp_path / "state.db", epoch=5)) as store:
        store.save_checkpoint(Checkpoint(round=Round(2), trained=False, blob=BLOB), record)
        (body,) = store._connection.execute("SELECT body FROM round").fetchone()

        assert store.rounds() == [record]
    row = json.loads(unsealed(body) or b"")
    assert (row["guard_local"], row["on_guard"]["against_local"]["nats"]) == (2.75, -0.5)
    assert {"guard_twin", "against_twin"}.isdisjoint({*row, *row["on_guard"]})


def test_what_is_shown_has_the_former_keys_too_and_an_older_daemons_document_is_read() -> None:
    older = b'{"base": 9.0, "local": 7.0}'

    assert msgspec.json.decode(older, type=PerplexityNow).twin == 7.0
    assert msgspec.json.decode(msgspec.json.encode(PerplexityNow(twin=7.0)))["local"] == 7.0
    assert msgspec.structs.replace(PerplexityNow(twin=7.0), twin=6.0).local == 6.0
    assert PerplexityNow().local is None


def test_a_missing_folder_is_an_error_with_advice_and_no_damage(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=re.escape("no/state.db")) as trouble:
        SqliteStore(tmp_path / "no" / "state.db", epoch=1)

    assert trouble.value.hint


def test_a_full_disk_leaves_the_old_state_readable(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    written(path)
    store = SqliteStore(path, epoch=6)
    pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
    store._connection.execute(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(StoreError, match="full") as trouble:
        store.save_announcement(b"x" * 100_000)

    assert "free some disk space" in trouble.value.hint
    assert store.announcement() == b"announcement"
    assert store.checkpoint() is not None
    store._connection.execute("PRAGMA max_page_count = 100000")
    store.save_announcement(b"there is room again")
    assert store.announcement() == b"there is room again"
    store.close()


def test_sequence_numbers_are_not_lost_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("peerd.store.sqlite.SEQUENCE_BLOCK", 1)
    store = SqliteStore(tmp_path / "state.db", epoch=6)
    first = store.reserve_sequence()
    store._connection.execute("PRAGMA query_only = ON")
    with pytest.raises(StoreError):
        store.reserve_sequence()
    store._connection.execute("PRAGMA query_only = OFF")

    assert store.reserve_sequence() > first
    store.close()


def test_the_store_serves_threads_other_than_its_maker(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db", epoch=6)
    thread = threading.Thread(target=store.save_announcement, args=(b"from a thread",))
    thread.start()
    thread.join()

    assert store.announcement() == b"from a thread"
    store.close()


def test_many_threads_get_different_sequence_numbers(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db", epoch=6)
    given: list[tuple[int, int]] = []
    threads = [
        threading.Thread(target=lambda: given.extend(store.reserve_sequence() for _ in range(100))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(given)) == 400
    store.close()


WRITER = """
import sys, hashlib
from pathlib import Path
from peerd.store.sqlite import SqliteStore
from peerd.store.blobs import FileBlobs
from peerd.store.checksum import sealed, unsealed
from peerd.store.blobs import FileBlobs
from peerd.store.checksum import sealed, unsealed
from peerd.store.port import Checkpoint
home = Path(sys.argv[1])
store, blobs = SqliteStore(home / "state.db", epoch=1), FileBlobs(home / "blobs")
number = store.checkpoint().round if store.checkpoint() else 0
while True:
    number += 1
    print("sequence", *store.reserve_sequence(), flush=True)
    digest = blobs.put(b"%d" % number * 5000)
    store.save_checkpoint(Checkpoint(round=number, trained=True, blob=digest))
    store.save_announcement(b"%d" % number)
    print("saved", number, flush=True)
"""


def test_a_writer_killed_at_any_moment_loses_nothing_it_had_saved(tmp_path: Path) -> None:
    given: list[tuple[int, int]] = []
    saved = 0
    for lines in (1, 2, 7, 30):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True, env={**os.environ}
        )
        assert writer.stdout is not None
        heard = [writer.stdout.readline() for _ in range(lines)]
        writer.kill()
        heard += writer.stdout.readlines()
        writer.stdout.close()
        writer.wait()
        for line in heard:
            words = line.split()
            if words[0] == "sequence" and len(words) == 3:
                given.append((int(words[1]), int(words[2])))
            elif words[0] == "saved" and line.endswith("\n"):
                saved = int(words[1])

        store = SqliteStore(tmp_path / "state.db", epoch=2)
        checkpoint = store.checkpoint()
        assert store.notice == ""
        assert (checkpoint.round if checkpoint else 0) >= saved
        if checkpoint is not None:
            assert FileBlobs(tmp_path / "blobs").path(checkpoint.blob).read_bytes() == b"%d" % checkpoint.round * 5000
        store.close()

    assert given == sorted(set(given))
    assert saved > 0


def test_refusals_and_seen_orders_of_one_peer_do_not_touch_another(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "state.db", epoch=6)
    store.count_refusal(PeerId("peer'; DROP TABLE refusal; --"), "replay")
    store.count_refusal(PeerId("peer-two"), "replay")

    assert store.refusals() == {"peer'; DROP TABLE refusal; --": {"replay": 1}, "peer-two": {"replay": 1}}
    store.close()


def test_the_version_stands_in_the_header_where_older_programs_look(tmp_path: Path) -> None:
    written(tmp_path / "state.db")

    header = (tmp_path / "state.db").read_bytes()[VERSION_OFFSET : VERSION_OFFSET + 4]
    assert int.from_bytes(header, "big") == VERSION
