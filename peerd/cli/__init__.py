"""The command `peerd`: says what it does in plain words, or in one JSON document with --json.

    entry          where it begins: the quick way for commands that only look, else `app`
    without_typer  looking, typed plainly, without the command-line library
    app            all commands, and the one place where an error becomes an exit code
    *_commands     functions of commands that ask a verb; start, check, read_command, debug: those that do more
    display        what people read; output: one document or words, never both

Most commands ask a running daemon and decide nothing. A mistake is found before anything is started or written
(`check`), and says the thing, the cause and the next command. Scripts read --json and exit codes; words may change.
"""

from peerd.cli.entry import main

__all__ = ["main"]
