"""Every file that holds state, damaged in every way: said, set aside, and training goes on from the last good state."""

import asyncio
import json
import logging
import shutil

import pytest
from msgspec.structs import replace

from p2pfinetune.names import PeerId, Round
from peerd.daemon.resume import open_state
from peerd.errors import StoreError
from peerd.machine.paths import Paths
from peerd.store.generations import KEPT_BANS, MAX_BYTES, NAME, Generations
from peerd.store.limits import MAX_BACKUPS, MAX_DAMAGED, MAX_REASON
from peerd.store.opening import VERSION_OFFSET
from peerd.store.port import KeptBan
from peerd.store.rounds import StoredRound
from peerd.store.sent import Publication
from peerd.store.sqlite import SqliteStore
from peerd.wire.envelope import opened
from tests.peerd.state.conftest import DAMAGES, do_damage

NOW = 1_000_000.0
ROUNDS = 3


def record(round_):
    return StoredRound(
        round=Round(round_), finished_unix=NOW, loss_train=1.0, loss_trust=None, guard_base=3.0, guard_own=2.0,
        guard_personal=2.0, guard_twin=None, row={PeerId("me"): 1.0}, accepted=True, reason="", steps=2, bytes_in=0,
        bytes_out=0,
    )  # fmt: skip


class Kept:
    """What a run has left behind, told apart by role."""

    def __init__(self, folder):
        self.paths, self._journals = Paths.of(folder), []

    def open(self, unix=NOW):
        """Its journal."""
        *_, journal = open_state(self.paths, unix)
        self._journals.append(journal)
        return journal

    def close(self):
        """Whatever is open still; a journal that is closed stays so."""
        for journal in self._journals:
            journal.close()

    async def one_round(self, journal, round_):
        def file(kind):
            path = self.paths.scratch / kind
            path.write_text(json.dumps({"round": round_, "kind": kind, "weights": list(range(300))}))
            return path

        await journal.training_saved(Round(round_), file("trained"), 2, 1.0)
        update = await journal.adopt(file("update"))
        order = await journal.next_order()
        publication = Publication(round=Round(round_), unix=NOW, blob=update, size=1)
        await journal.announcement_saved(opened(b"announcement of " + update.encode()), publication, 1e-5)
        await journal.round_saved(record(round_), file("merged"), file("best"), 2.0)
        return order

    def file(self, role):
        checkpoints = Generations(self.paths.blobs).kept.checkpoints
        match role:
            case "database":
                return self.paths.database
            case "log of the database":
                return self.paths.database.with_name("state.db-wal")
            case "index of that log":
                return self.paths.database.with_name("state.db-shm")
            case "record of checkpoints":
                return self.paths.blobs / NAME
            case "newest checkpoint":
                return self.paths.blobs / checkpoints[0].blob
            case "checkpoint before":
                return self.paths.blobs / checkpoints[1].blob
            case "best adapter":
                return self.paths.blobs / checkpoints[0].best_blob

    def goes_on(self):
        """(round, trained) from which training goes on, round of the best adapter, records, the next order."""
        journal = self.open()
        try:
            checkpoint, path = asyncio.run(journal.whole_checkpoint())
            best = asyncio.run(journal.whole_best())
            assert json.loads(path.read_text())["kind"] == ("trained" if checkpoint.trained else "merged")
            assert json.loads(path.read_text())["round"] == checkpoint.round - (not checkpoint.trained)
            rounds = [record.round for record in journal.records]
            assert rounds == list(range(1, len(rounds) + 1))
            assert len(rounds) < checkpoint.round
            return (
                (checkpoint.round, checkpoint.trained),
                json.loads(best[1].read_text())["round"],
                len(rounds),
                asyncio.run(journal.next_order()),
            )
        finally:
            journal.close()


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A home of which the power was cut after three rounds: the database's log is still there."""
    running, left = (Kept(tmp_path_factory.mktemp(name)) for name in ("running", "left"))
    running.paths.prepare()
    journal = running.open()

    async def rounds():
        return [await running.one_round(journal, round_) for round_ in range(1, ROUNDS + 1)]

    left.orders = asyncio.run(rounds())
    shutil.copytree(running.paths.home, left.paths.home, dirs_exist_ok=True)
    journal.close()
    assert left.file("log of the database").stat().st_size > 0
    return left


@pytest.fixture
def kept(template, tmp_path):
    found = Kept(tmp_path / "home")
    shutil.copytree(template.paths.home, found.paths.home)
    found.last_order = template.orders[-1]
    yield found
    found.close()


AFTER_ROUND_3, TRAINED_IN_ROUND_3 = (4, False), (3, True)


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("database", AFTER_ROUND_3),
        ("log of the database", AFTER_ROUND_3),
        ("index of that log", AFTER_ROUND_3),
        ("record of checkpoints", AFTER_ROUND_3),
        ("newest checkpoint", TRAINED_IN_ROUND_3),
        ("checkpoint before", AFTER_ROUND_3),
        ("best adapter", AFTER_ROUND_3),
    ],
)
def test_training_goes_on_from_the_last_good_state_whatever_file_is_damaged(kept, caplog, role, expected, how):
    file = kept.file(role)
    do_damage(file, how)

    checkpoint, best, _, order = kept.goes_on()

    assert checkpoint == expected
    assert best == (2 if role == "best adapter" else ROUNDS)
    assert order > kept.last_order
    if role in {"newest checkpoint", "best adapter"} or (role == "record of checkpoints" and how != "deleted"):
        assert file.name in caplog.text
        assert how == "deleted" or file.with_suffix(".damaged").exists()
    caplog.clear()
    assert kept.goes_on()[3] > order
    assert "damaged" not in caplog.text


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("role", ["database", "log of the database"])
def test_flipped_bits_in_the_database_never_cost_the_adapter_nor_a_number(kept, role, seed):
    do_damage(kept.file(role), "bits flipped", seed)

    checkpoint, best, _, order = kept.goes_on()

    assert (checkpoint, best) == (AFTER_ROUND_3, ROUNDS)
    assert order > kept.last_order


@pytest.mark.parametrize("place", range(0, 40_000, 3500))
def test_two_hundred_bytes_overwritten_anywhere_in_the_database_never_cost_the_adapter(kept, place):
    data = whole_database(kept)
    kept.paths.database.write_bytes(data[:place] + b"\xaa" * 200 + data[place + 200 :])

    checkpoint, best, _, order = kept.goes_on()

    assert (checkpoint, best) == (AFTER_ROUND_3, ROUNDS)
    assert order > kept.last_order


def test_a_lost_database_is_said_with_what_is_lost_and_begins_a_new_epoch(kept, caplog):
    kept.paths.database.write_bytes(b"no database")

    order = kept.goes_on()[3]

    assert order[0] > kept.last_order[0]
    assert str(kept.paths.database.with_name("state.db.bak")) in caplog.text
    assert "history of rounds and known peers" in caplog.text


@pytest.mark.parametrize("how", ["deleted", "zeroed"])
def test_who_was_banned_stays_banned_when_the_database_is_lost_and_who_was_let_in_again_is_in(kept, how):
    ban = KeptBan(peer=PeerId("liar"), until_unix=NOW + 600.0, seconds=600.0, bans=2, reason="norm")
    _, _, journal = open_state(kept.paths, NOW)
    for peer in ("liar", "forgiven"):
        asyncio.run(journal.ban(replace(ban, peer=PeerId(peer))))
    asyncio.run(journal.lift_ban(PeerId("forgiven")))
    journal.close()
    do_damage(kept.paths.database, how)

    store, _, journal = open_state(kept.paths, NOW)
    assert store.bans() == [ban]
    asyncio.run(journal.lift_ban(PeerId("liar")))
    journal.close()
    store, _, journal = open_state(kept.paths, NOW)
    assert store.bans() == []
    journal.close()


def test_so_many_bans_are_kept_beside_the_blobs_and_they_are_the_longest(tmp_path):
    generations = Generations(tmp_path)
    for number in range(2 * KEPT_BANS):
        peer = PeerId(f"12D3KooW{number:044d}")
        generations.keep_ban(
            KeptBan(peer=peer, until_unix=NOW + number, seconds=600.0, bans=1, reason="x" * MAX_REASON)
        )

    assert (tmp_path / NAME).stat().st_size < MAX_BYTES / 2
    again = Generations(tmp_path).kept.bans
    assert [ban.until_unix - NOW for ban in again] == list(range(2 * KEPT_BANS))[::-1][:KEPT_BANS]


def test_a_new_epoch_comes_after_the_old_one_even_where_the_clock_was_set_back(kept):
    do_damage(kept.paths.database, "zeroed")
    assert asyncio.run(kept.open(unix=NOW - 3600).next_order()) > kept.last_order


def test_a_database_that_lost_its_log_gives_no_number_twice_and_says_so(kept, caplog):
    do_damage(kept.file("log of the database"), "deleted")

    order = kept.goes_on()[3]

    assert order[0] > kept.last_order[0]
    assert "has lost its latest rows" in caplog.text


@pytest.mark.parametrize("how", ["deleted", "zeroed", "overwritten"])
def test_database_and_newest_checkpoint_damaged_together_cost_one_step_of_a_round(kept, how):
    files = [kept.file(role) for role in ("database", "log of the database", "newest checkpoint")]
    for file in files:
        do_damage(file, how)

    assert kept.goes_on()[0] == TRAINED_IN_ROUND_3


def test_all_generations_gone_is_said_and_the_round_numbers_go_on(kept, caplog):
    for role in ("newest checkpoint", "checkpoint before"):
        do_damage(kept.file(role), "zeroed")
    journal = kept.open()

    assert asyncio.run(journal.whole_checkpoint()) is None
    assert asyncio.run(journal.whole_best()) is not None
    assert journal.checkpoint.round == ROUNDS + 1
    assert caplog.text.count("damaged on disk") == 2
    assert "training begins anew" in caplog.text


def test_a_record_of_a_newer_version_is_refused_and_left_as_it_is(kept):
    from peerd.store.checksum import sealed

    file = kept.file("record of checkpoints")
    file.write_bytes(sealed(b'{"format":2,"checkpoints":"otherwise"}'))
    before = file.read_bytes()

    with pytest.raises(StoreError, match="newer peerd") as raised:
        kept.open()

    assert "upgrade" in raised.value.hint
    assert file.read_bytes() == before


def test_damaged_files_are_kept_aside_in_bounded_number(kept):
    kept.file("log of the database").unlink()
    for number in range(MAX_BACKUPS + 3):
        kept.paths.database.write_bytes(b"damage %d" % number)
        SqliteStore(kept.paths.database, epoch=number).close()
    for number in range(MAX_DAMAGED + 3):
        (kept.paths.blobs / f"{number:064d}.damaged").write_bytes(b"damage")
    journal = kept.open()
    journal.sweep(())
    journal.close()

    aside = sorted(file for file in kept.paths.home.glob("state.db.bak*") if "-" not in file.name)
    assert [file.read_bytes() for file in aside] == [b"damage 0", b"damage 1", b"damage 5"]
    assert len(list(kept.paths.blobs.glob("*.damaged"))) == MAX_DAMAGED


@pytest.mark.parametrize("version", [0, 2 + 2**8, 2**31 - 1])
def test_a_damaged_version_is_damage_and_no_newer_program(kept, caplog, version):
    data = bytearray(whole_database(kept))
    data[VERSION_OFFSET : VERSION_OFFSET + 4] = version.to_bytes(4, "big")
    kept.paths.database.write_bytes(data)

    assert kept.goes_on()[0] == AFTER_ROUND_3
    assert f"it says it is of format {version}" in caplog.text
    assert kept.paths.database.with_name("state.db.bak").read_bytes() == data


def whole_database(kept):
    """Its log is in the file then."""
    SqliteStore(kept.paths.database, epoch=1).close()
    return kept.paths.database.read_bytes()


def test_the_older_generation_is_swept_no_sooner_than_it_is_replaced(kept):
    journal = kept.open()
    before = kept.file("checkpoint before")
    journal.sweep(())
    assert before.exists()
    asyncio.run(kept.one_round(journal, ROUNDS + 1))
    assert not before.exists()
    journal.sweep(())
    checkpoints = Generations(kept.paths.blobs).kept.checkpoints
    journal.close()

    needed = {blob for one in checkpoints for blob in (one.blob, one.best_blob)}
    assert {file.name for file in kept.paths.blobs.iterdir()} == {NAME, *needed}


def test_rounds_that_are_done_again_are_not_shown_twice(kept, caplog):
    caplog.set_level(logging.WARNING)
    do_damage(kept.file("newest checkpoint"), "overwritten")

    (checkpoint, _, rounds, _) = kept.goes_on()

    assert (checkpoint, rounds) == (TRAINED_IN_ROUND_3, 2)
