"""The command `peerd`: says what it does in plain words, or in one JSON document with --json."""

from peerd.cli.entry import main

__all__ = ["main"]
