"""How a program of ours starts another Python: without the folder that somebody happened to stand in.

`python -m NAME` and `python -c CODE` put the current folder before all else that is imported, so that a `json.py` or
`torch.py` in a folder that others can write to (a shared temporary one, a download) is run. Therefore each interpreter
that we start gets three things from here, and a wall checks that there is no other way:

* `command`: the flag `-P`, which leaves that folder out; `-I` where this interpreter was isolated itself. Not `-I` in
  general: it would also forget PYTHONPATH and the packages of this user, from which peerd itself may come.
* `environment`: the same for those that libraries start (PYTHONSAFEPATH), a PYTHONPATH that means the same wherever
  one stands, and folders that are named relative to the current one made absolute.
* `FOLDER`: where it runs. Nobody but the system's administrator can put a file there; no mount is kept busy, and no
  folder that is deleted takes the next start with it.

A process that somebody starts by `python -m peerd` has looked into the current folder before a line of ours runs; only
its imports from then on can be kept out of it (`__main__.py`). The commands `peerd`, `peerd-bootstrap` and
`p2pfinetune` never look there, nor does `python -P -m peerd`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

FOLDER: Final = "/"
SAFE_PATH: Final = "PYTHONSAFEPATH"
FOLDERS_NAMED: Final = (
    "HF_HOME",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "TRANSFORMERS_CACHE",
    "TORCH_HOME",
    "PEERD_HOME",
    "PEERD_MODELS",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_DATA_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "TMPDIR",
    "SSL_CERT_DIR",
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
)
"""Variables with one path, which our libraries read."""


def command(*arguments: str) -> list[str]:
    """The same Python, with these arguments."""
    if sys.flags.isolated:
        return [sys.executable, "-I", *arguments]
    inherited = ["-E"] * sys.flags.ignore_environment + ["-s"] * sys.flags.no_user_site
    return [sys.executable, "-P", *inherited, *arguments]


def environment(given: Mapping[str, str]) -> dict[str, str]:
    """What a child gets of it."""
    found = {**given, SAFE_PATH: "1"}
    if "PYTHONPATH" in found:
        found["PYTHONPATH"] = fixed_path(found["PYTHONPATH"])
        if not found["PYTHONPATH"]:
            del found["PYTHONPATH"]
    for name in FOLDERS_NAMED:
        if found.get(name) and not Path(found[name]).expanduser().is_absolute():
            found[name] = _absolute(found[name])
    return found


def guard_children() -> None:
    """So that children which libraries start (of a process pool, of Ray) are guarded, too."""
    found = environment(os.environ)
    for name in os.environ.keys() - found.keys():
        del os.environ[name]
    os.environ.update(found)


def fixed_path(text: str) -> str:
    """A search path without what nobody typed: an empty entry, of `$UNSET:/opt/lib`, means the current folder.

    A relative entry was typed; it goes on to mean what it means here.
    """
    return os.pathsep.join(_absolute(entry) for entry in text.split(os.pathsep) if entry)


def _absolute(entry: str) -> str:
    try:
        return os.path.abspath(entry)  # noqa: PTH100  # without a word about links, as the interpreter does
    except OSError:
        return entry  # relative to a folder that was deleted: nothing is found there, whatever is said
