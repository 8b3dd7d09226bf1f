"""What is taken for a secret in text that has none: `python -m benchmarks.secrets --data DIR [FOLDER ...]`.

`DIR` is the raw text of the paper's settings: novels, news, encyclopedias, standards, code. Printed for each folder of
it, and for each other folder of files that is named: characters, how many are left out as passwords, tokens or keys,
in how many places, how quickly that was found, and the places themselves.
"""

from __future__ import annotations

import argparse
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path

from p2pfinetune.data.secrets import secrets

FOLDERS = ("novels", "peps", "wikitext2", "ag_news", "wikineural", "java")
SHOWN = 30
CODE = {".py", ".md", ".rst", ".txt", ".toml", ".js", ".c", ".h"}


def of_rows(folder: Path) -> Iterator[str]:
    """Texts as they lie in the data of the settings."""
    for path in sorted(folder.iterdir()):
        if ".jsonl" in path.name:
            with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
                for line in lines:
                    row = json.loads(line)
                    yield max((value for value in row.values() if isinstance(value, str)), key=len)
        elif path.suffix in {".txt", ""}:
            yield path.read_text()


def of_files(folder: Path) -> Iterator[str]:
    """Code and its documents."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in CODE and path.is_file():
            yield path.read_text(errors="replace")


def measure(name: str, texts: Iterator[str]) -> None:
    characters = left_out = 0
    places, seconds = list[str](), 0.0
    for text in texts:
        begun = time.process_time()
        found, end = sorted(secrets(text)), 0
        seconds += time.process_time() - begun
        characters += len(text)
        for begin, stop in found:
            left_out += max(0, stop - max(begin, end))
            end = max(end, stop)
            places.append(text[begin:stop].strip())
    pace = characters / 1e6 / max(seconds, 1e-9)
    print(f"{name}: {characters:,} characters, {left_out:,} left out in {len(places):,} places; {pace:.1f} MB/s")
    for place in places[:SHOWN]:
        print(f"    {place[:150]!r}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder with the raw text")
    parser.add_argument("folders", type=Path, nargs="*", help="folders of code")
    given = parser.parse_args()
    for name in FOLDERS:
        measure(name, of_rows(given.data / name))
    for folder in given.folders:
        measure(str(folder), of_files(folder))


if __name__ == "__main__":
    main()
