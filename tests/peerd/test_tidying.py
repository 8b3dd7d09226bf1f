"""Files of the moment."""

from pathlib import Path

from peerd.daemon.tidying import clear
from peerd.machine.paths import Paths

WRITTEN = ("splits.record", "config.toml", "identity.key")


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path / "home")
    paths.prepare()
    left = [paths.scratch / "1-1.checkpoint", *(paths.home / f".{name}.0f.temp" for name in WRITTEN)]
    for file in left:
        file.touch()
    clear(paths)

    assert not any(file.exists() for file in left)


def test_a_scratch_folder_that_is_gone_keeps_nothing_else_from_being_tidied(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path / "home")
    paths.prepare()
    paths.scratch.rmdir()
    left = paths.config.with_name(".config.toml.0f.temp")
    left.touch()
    clear(paths)

    assert not left.exists()
