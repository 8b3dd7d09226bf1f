"""Attackers that need not be loaded: one process imports them all, and forks one for each attack.

What goes in is a line of JSON with the arguments of `python -m tests.attackers`; what comes out is the process id of the
attacker, a line when it has managed something, and when it has ended all that it managed: nothing, if it was killed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from tests.attackers.__main__ import attack


class Ready:
    """The process that attackers are forked from; one attacks at a time."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.attackers.ready"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @contextmanager
    def attacking(self, *arguments: object) -> Iterator[Attacker]:
        """One attack, under way; it is ended at the end of the block, if it still goes on."""
        assert self._process.stdin
        self._process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
        self._process.stdin.flush()
        attacker = Attacker(int(self._line()), self)
        try:
            assert self._line() == "begun\n", "there was no attack"
            yield attacker
        finally:
            attacker.end()

    def _line(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()

    def end(self) -> None:
        """Of it all."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()


class Attacker:
    """One that was forked."""

    def __init__(self, pid: int, ready: Ready) -> None:
        self.pid, self._ready = pid, ready
        self._done: dict[str, int] | None = None

    def done(self) -> dict[str, int]:
        """What it managed, when it has ended by itself."""
        if self._done is None:
            self._done = json.loads(self._ready._line())
        assert self._done is not None
        return self._done

    def end(self) -> None:
        """At once."""
        if self._done is None:
            os.kill(self.pid, signal.SIGKILL)
            self.done()


def serve() -> None:
    """Orders from standard input, one after the other, until it ends."""
    for line in sys.stdin:
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            os.close(reader)
            print(os.getpid(), flush=True)  # noqa: T201
            managed = attack(json.loads(line), cache(lambda: print("begun", flush=True)))  # noqa: T201  # once
            os.write(writer, json.dumps(managed).encode())
            os._exit(0)
        os.close(writer)
        with os.fdopen(reader, "rb") as pipe:
            managed = pipe.read().decode()
        os.waitpid(child, 0)
        print(managed or "{}", flush=True)  # noqa: T201


if __name__ == "__main__":
    serve()
