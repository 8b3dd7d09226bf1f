"""Where `p2pfinetune` begins, and the one place where an error becomes an exit code.

0 fine   1 failure   2 bad usage or input   130 interrupted, to be gone on with
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence

from p2pfinetune.cli import app
from p2pfinetune.cli.output import complain, fail
from p2pfinetune.errors import ClusterError, LearningError
from p2pfinetune.system import streams

FAILED, MISUSED = 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    if arguments is None:  # a process of our own
        streams.settle()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is loaded; see peerd.worker.process
    given = list(sys.argv[1:] if arguments is None else arguments)
    name, as_json = given[0] if given and given[0] in app.NAMES else "", "--json" in given
    try:
        return app.run(given)
    except ClusterError as error:
        fail(name, "cluster", str(error), error.hint, as_json)
        return FAILED
    except LearningError as error:
        fail(name, "usage", str(error), error.hint, as_json)
        return MISUSED
    except OSError as error:
        fail(name, "failed", f"{error.filename or 'a file'}: {error.strerror or error}", "", as_json)
        return FAILED
    except KeyboardInterrupt:
        complain("")
        hint = f"go on with: {again(given)}"
        fail(
            name,
            "interrupted",
            "interrupted; what is complete stays, the rest goes on from its last checkpoint",
            hint,
            as_json,
        )
        return app.INTERRUPTED


def again(given: Sequence[str]) -> str:
    """The same command, typed so that it goes on."""
    return shlex.join(["p2pfinetune", *(word for word in given if word != "--fresh")])
