"""One line an event."""

import logging
from pathlib import Path

import pytest

from peerd.machine import logs


@pytest.fixture
def written(tmp_path):
    """A function that logs and returns what stands in the file."""
    path = tmp_path / "peerd.log"
    handlers = logs.set_up(path)

    def write(message, *arguments, **fields):
        logging.getLogger("peerd.test").info(message, *arguments, extra=fields)
        return path.read_text().splitlines()[-1]

    yield write
    logs.take_down(handlers)


def test_fields_follow_the_message(written):
    line = written("round finished", round=3, accepted=True, reason="", guard=2.5, who="alice", words="two words")

    assert line.endswith(
        ' info    test: round finished round=3 accepted=true reason="" guard=2.5 who=alice words="two words"'
    )


def test_what_other_libraries_add_for_themselves_is_no_field(written):
    line = written("round finished", round=3, _of_a_library=17)

    assert line.endswith(" round finished round=3")


def test_strangers_can_neither_forge_a_line_nor_write_a_long_one(written):
    line = written("heard %s", "\x1b[2Ja\n2026 error: forged", who="\x1b[31mred\nforged" + "x" * 1000)

    assert "\x1b" not in line
    assert "heard \\x1b[2Ja\\n2026 error: forged" in line
    assert len(line) < 600


def test_what_libraries_chat_about_is_left_out(written, tmp_path):
    logging.getLogger("some.library").info("chat")
    logging.getLogger("libp2p.noise").error("a stranger did something")
    written("mine")

    assert len((tmp_path / "peerd.log").read_text().splitlines()) == 1


def test_two_set_ups_leave_no_handler_behind(tmp_path):
    before = list(logging.getLogger().handlers)
    logs.take_down(logs.set_up(tmp_path / "log"))

    assert logging.getLogger().handlers == before


def test_a_flood_of_one_line_is_cut_short_counted_and_hides_no_other():
    spare, shown = logs.Sparing(), []
    for second in (0.0, 100.0):
        for number in range(1000):
            record = logging.LogRecord("peerd", logging.WARNING, "here.py", 1, f"stranger {number}", (), None)
            record.created = second
            shown += [record] if spare.filter(record) else []
    other = logging.LogRecord("peerd", logging.WARNING, "here.py", 2, "mine", (), None)

    assert len(shown) == 2 * logs.LINES_BURST
    assert shown[100].left_out == 900
    assert spare.filter(other)


def test_a_clock_that_is_set_back_by_an_hour_silences_no_line():
    spare, shown = logs.Sparing(), []
    for second in (7200.0, 3600.0):
        record = logging.LogRecord("peerd", logging.WARNING, "here.py", 1, "mine", (), None)
        record.created = second
        shown += [record] if spare.filter(record) else []

    assert len(shown) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
def test_a_log_on_a_full_disk_is_closed_without_hiding_why_the_daemon_ends(capsys):
    handlers = logs.set_up(Path("/dev/full"))
    logging.getLogger("peerd.test").info("starting")

    logs.take_down(handlers)

    assert "Traceback" not in capsys.readouterr().err


@pytest.mark.parametrize("how", [Path.unlink, lambda path: path.rename(path.with_suffix(".old"))])
def test_a_log_that_is_removed_or_moved_while_it_is_written_is_made_again(written, tmp_path, how):
    written("before")
    how(tmp_path / "peerd.log")

    assert "after" in written("after")


def test_a_log_whose_folder_was_deleted_writes_nothing_into_the_next_folder_of_that_name(tmp_path):
    (home := tmp_path / "home").mkdir()
    handlers = logs.set_up(home / "peerd.log")
    try:
        logging.getLogger("peerd.test").info("before")
        home.rename(tmp_path / "gone")
        home.mkdir()
        logging.getLogger("peerd.test").info("after")
    finally:
        logs.take_down(handlers)

    assert list(home.iterdir()) == []
    assert "after" in (tmp_path / "gone" / "peerd.log").read_text()
