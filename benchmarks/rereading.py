"""What one new line in a growing file costs: `python -m benchmarks.rereading`.

A log of some megabytes lies among notes; a line is appended, and the text is read again as the daemon does it at every
sign of a change. Printed: CPU seconds of the first reading, of one in which nothing has changed, of one after a new
line, and of the same without a memory and without tokens of before, which is what every reading did once.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from pathlib import Path

from transformers import AutoTokenizer

from p2pfinetune.data.corpus import prepare
from p2pfinetune.data.dealer import Dealer
from p2pfinetune.data.reading_memory import ReadingMemory
from p2pfinetune.model.base import resolve_model
from p2pfinetune.names import Digest
from p2pfinetune.paper.installed_text import documents_of

AT_REST_NS = 10_000_000_000  # later than the files by so much: longer than a memory waits


class Reader:
    """One daemon's readings of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tokenizer = AutoTokenizer.from_pretrained(resolve_model("nano"))
        self.begin()

    def begin(self) -> None:
        """As if nothing had ever been read."""
        self.memory, self.dealer = ReadingMemory(), Dealer("salt")
        shutil.rmtree(self.folder / "cache", ignore_errors=True)

    def seconds(self) -> float:
        """Of the processor, for one reading."""
        begun = time.process_time()
        prepare(
            [self.folder / "text"],
            self.tokenizer,
            tokenizer_digest=Digest("0" * 64),
            cache=self.folder / "cache",
            context=256,
            salt="salt",
            dealer=self.dealer,
            memory=self.memory,
            now_ns=time.time_ns() + AT_REST_NS,
        )
        return time.process_time() - begun


def write(folder: Path, megabytes: float) -> Path:
    """Notes, and a log that grows."""
    folder.mkdir(parents=True)
    for i, document in enumerate(documents_of("prose", 200_000)):
        (folder / f"{i}.txt").write_text(document.text, encoding="utf-8")
    words = " ".join(document.text for document in documents_of("prose")).split()
    log, size, i = folder / "growing.log", 0, 0
    with log.open("w", encoding="utf-8") as file:
        while size < megabytes * 1e6:
            at = i * 7919 % (len(words) - 20)
            size += file.write(
                f"2026-11-21T09:{i // 60 % 60:02}:{i % 60:02}Z {i} {' '.join(words[at : at + 9 + i % 11])}\n"
            )
            i += 1
    return log


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=8.0)
    parser.add_argument("--lines", type=int, default=3, help="appended one after the other")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        log, reader = write(Path(name) / "text", options.megabytes), Reader(Path(name))
        found = {"first": reader.seconds(), "unchanged": reader.seconds(), "after a new line": [], "without memory": []}
        for i in range(options.lines):
            with log.open("a", encoding="utf-8") as file:
                file.write(f"2026-11-21T10:00:00Z one more line, the {i}th of them\n")
            found["after a new line"].append(reader.seconds())
        for _ in range(options.lines):
            reader.begin()
            found["without memory"].append(reader.seconds())
    best = {what: min(seconds) if isinstance(seconds, list) else seconds for what, seconds in found.items()}
    print(json.dumps({what: round(seconds, 3) for what, seconds in best.items()}, indent=1))
    print(f"a new line costs a {best['without memory'] / best['after a new line']:.1f}th of reading everything")


if __name__ == "__main__":
    main()
