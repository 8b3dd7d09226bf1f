"""A home that is deleted, replaced or moved while its daemon runs, and a home with the training of somebody else."""

import shutil

import msgspec
import pytest

from peerd.daemon.resume import open_state
from peerd.errors import HomeGone, UsageError
from peerd.machine import lock
from peerd.wire.keys import PeerKey

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

LOOKS = 30.0  # seconds, for a look every two and an orderly end


def delete(folder):
    """While its daemon writes, which takes files away and makes new ones meanwhile."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def checkpoint_of(paths):
    _store, _, journal = open_state(paths, 0.0)
    journal.close()
    return journal.checkpoint


def test_a_home_that_is_deleted_ends_its_daemon_and_it_writes_nothing_into_the_next(process):
    first = process("text").start()
    first.until(lambda status: status.round >= 2)
    delete(first.folder)
    first.folder.mkdir(mode=0o700)  # as the next start would; that is tried whatever the moment
    for name in ("blobs", "scratch", "cache"):
        (first.folder / name).mkdir(mode=0o700)
    (first.folder / "scratch" / "of-the-next").touch()

    assert first.process.wait(LOOKS) == 1
    assert "the home" in first.said()
    assert f"{first.folder} was deleted while the daemon ran; nothing more is written there" in first.said()
    assert f"peerd start --home {first.folder}" in first.said()  # and not one in the home that is usual
    assert "Traceback" not in first.said()
    assert sorted(path.name for path in first.folder.iterdir()) == ["blobs", "cache", "scratch"]
    assert [*(first.folder / "blobs").iterdir()] == []
    assert (first.folder / "scratch" / "of-the-next").exists()


def test_a_second_daemon_at_the_same_path_keeps_what_it_learns_to_itself(process):
    first = process("text").start()
    before = first.until(lambda status: status.round >= 2)
    delete(first.folder)
    old, first._process = first.process, None
    first.start()
    try:
        second = first.until(lambda status: status.round >= 1)

        assert old.wait(LOOKS) == 1
        after = first.until(lambda status: status.round > second.round)
    finally:
        old.kill()

    assert second.peer_id != before.peer_id
    assert after.peer_id == second.peer_id
    assert after.worker.restarts == 0
    assert first.end()[0] == 0
    assert checkpoint_of(first.paths).peer == second.peer_id


def test_a_home_that_is_moved_ends_its_daemon_which_says_where_it_is_now(process):
    daemon = process("text").start()
    daemon.until(lambda status: status.round >= 1)
    moved = daemon.folder.with_name("elsewhere")
    daemon.folder.rename(moved)

    assert daemon.process.wait(LOOKS) == 1
    assert f"was moved to {moved} while the daemon ran" in daemon.said()
    assert f"peerd start --home {moved}" in daemon.said()
    assert not daemon.folder.exists()
    assert lock.holder(moved / "peerd.lock") is None
    assert lock.died(moved / "peerd.lock").endswith(
        f"ended: the home {daemon.folder} was moved to {moved} while the daemon ran"
    )


def test_what_is_locked_is_told_from_what_lies_at_its_path(tmp_path):
    path = tmp_path / "home" / "lock"
    path.parent.mkdir()
    with lock.hold(path, version="1", socket=path) as held:
        held.require()
        path.rename(path.with_name("away"))
        path.touch()
        assert not held.is_ours()
        with pytest.raises(HomeGone, match="was moved to"):
            held.require()
        path.with_name("away").unlink()
        with pytest.raises(HomeGone, match="was replaced while"):
            held.require()
        shutil.rmtree(path.parent)
        with pytest.raises(HomeGone, match="was deleted while") as caught:
            held.require()
        assert "begin anew: peerd start --data FOLDER" in caught.value.hint  # its options are gone, too

    assert caught.value.exit_code == 1


def trained_by(world, peer):
    paths = world.paths("a")
    store, blobs, journal = open_state(paths, 0.0, me=peer)
    return paths, store, blobs, journal


@pytest.mark.parametrize("where", ["database", "generations"])
def test_the_training_of_another_peer_is_refused_and_left_as_it_is(world, where):
    from p2pfinetune.names import Round
    from peerd.store.port import Checkpoint

    other, me = PeerKey(bytes(32)).peer_id, PeerKey(b"1" * 32).peer_id
    paths, store, blobs, journal = trained_by(world, other)
    kept = Checkpoint(round=Round(3), trained=False, blob=blobs.put(b"adapter"), peer=other)
    if where == "database":
        store.save_checkpoint(kept)
    else:
        journal._generations.keep_checkpoints((kept,))
    journal.close()

    with pytest.raises(UsageError, match=f"belongs to the peer {other}, and .* is the key of {me}") as caught:
        open_state(paths, 0.0, me=me)
    assert "--home" in caught.value.hint
    assert checkpoint_of(paths) == kept


def test_training_that_an_older_version_kept_without_a_name_is_gone_on_with(world):
    from p2pfinetune.names import Round
    from peerd.store.port import Checkpoint

    me = PeerKey(bytes(32)).peer_id
    paths, store, blobs, journal = trained_by(world, me)
    old = msgspec.structs.replace(Checkpoint(round=Round(3), trained=False, blob=blobs.put(b"adapter")), peer=None)
    store.save_checkpoint(old)
    journal.close()

    *_, journal = open_state(paths, 0.0, me=me)
    journal.close()
    assert journal.checkpoint == old
