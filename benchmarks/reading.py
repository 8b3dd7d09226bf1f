"""What a large folder costs: `python -m benchmarks.reading --data DIR --megabytes 200 --files 100000`.

A folder of so many text files is made of the novels in `DIR`, in a temporary folder, and read as a daemon reads it
first: found, read, encoded with `nano`'s tokenizer, compared, dealt and written to the token cache. Printed of each
step: seconds, and the peak of the memory that the process holds, less what it held before and as a ratio to the text.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from p2pfinetune.data.corpus import prepare
from p2pfinetune.data.dealer import Dealer
from p2pfinetune.model.base import load_tokenizer
from p2pfinetune.names import Digest

PAGE = os.sysconf("SC_PAGE_SIZE")
LOOK_SECONDS = 0.02
IN_FOLDER = 500  # files


def held() -> int:
    """Bytes that are neither on disk nor elsewhere: Linux alone tells."""
    _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
    return (resident - shared) * PAGE


class Watch:
    """Seconds and peak of each step."""

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = {}
        self._step, self._since = "", time.perf_counter()
        self._before = held()
        threading.Thread(target=self._look, daemon=True).start()

    def tell(self, what: str, done: int, total: int) -> None:
        if what != self._step:
            self._end()
            self._step = what
            self.steps.setdefault(what, [0.0, 0.0])

    def _end(self) -> None:
        now = time.perf_counter()
        if self._step:
            self.steps[self._step][0] += now - self._since
        self._since = now

    def _look(self) -> None:
        while True:
            if found := self.steps.get(self._step):
                found[1] = max(found[1], held() - self._before)
            time.sleep(LOOK_SECONDS)

    def report(self, size: int) -> None:
        self._end()
        print(f"{'step':<22}{'seconds':>9}{'MB held':>10}{'of the text':>13}")
        for step, (seconds, peak) in self.steps.items():
            print(f"{step:<22}{seconds:>9.1f}{peak / 1e6:>10.0f}{peak / size:>13.2f}")


def novels(data: Path) -> Iterator[str]:
    """Their texts, over and over; from the second time on with the words of each line turned around, so that they
    are no copies.
    """
    dice = random.Random(0)
    for turn in range(1_000):
        for path in sorted((data / "novels").glob("*.jsonl.gz")):
            with gzip.open(path, "rt") as lines:
                for line in lines:
                    text = max((v for v in json.loads(line).values() if isinstance(v, str)), key=len)
                    if turn:
                        text = "\n".join(
                            " ".join(dice.sample(words := row.split(" "), len(words))) for row in text.split("\n")
                        )
                    yield text


def write(folder: Path, data: Path, megabytes: float, files: int) -> int:
    """So many files of one size; their bytes in all."""
    size, number, written = max(1, int(megabytes * 1e6 / files)), 0, 0
    for text in novels(data):
        for begin in range(0, len(text), size):
            if number == files or written > megabytes * 1e6:
                return written
            path = folder / f"{number // IN_FOLDER:04}" / f"{number:06}.txt"
            path.parent.mkdir(exist_ok=True)
            written += path.write_bytes(text[begin : begin + size].encode())
            number += 1
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the raw text")
    parser.add_argument("--megabytes", type=float, default=200.0)
    parser.add_argument("--files", type=int, default=1000)
    given = parser.parse_args()
    tokenizer = load_tokenizer("nano")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "text").mkdir()
        size = write(folder / "text", given.data, given.megabytes, given.files)
        watch = Watch()
        corpus = prepare(
            [folder / "text"],
            tokenizer,
            tokenizer_digest=Digest("0" * 64),
            cache=folder / "cache",
            context=256,
            salt="salt",
            dealer=Dealer("salt", folder / "splits.record"),
            tell=watch.tell,
        )
        watch.report(size)
        tokens = sum(len(corpus.split(split).tokens) for split in ("train", "trust", "guard", "test"))
        print(f"{size / 1e6:.0f} MB in {given.files:,} files: {corpus.report.documents:,} documents, {tokens:,} tokens")


if __name__ == "__main__":
    main()
