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


def test_what_versions_before_left_is_removed_and_nothing_of_an_editor_beside_a_linked_configuration(
    tmp_path: Path,
) -> None:
    paths = Paths.of(tmp_path / "home")
    paths.prepare()
    dotfiles = tmp_path / "dotfiles"
    dotfiles.mkdir()
    (dotfiles / "peerd.toml").touch()
    paths.config.symlink_to(dotfiles / "peerd.toml")
    left = [dotfiles / ".config-a1b2.toml", paths.home / ".identity.key.a1b2", paths.home / "splits.record.part"]
    of_people = [dotfiles / name for name in (".peerd.toml.swp", ".peerd-work.toml", "peerd.toml.part")]
    for file in (*left, *of_people):
        file.touch()
    clear(paths)

    assert not any(file.exists() for file in left)
    assert all(file.exists() for file in of_people)
