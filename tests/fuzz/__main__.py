"""Fuzz the decoders and protocols.

python -m tests.fuzz run --minutes 5                 every target in turn (needs atheris)
python -m tests.fuzz replay TARGET FILE...           inputs again, without a fuzzer
python -m tests.fuzz daemons --minutes 5 --seed 1    whole daemons over real libp2p, as strangers find them
python -m tests.fuzz keep OUT                        take what a run found into tests/fuzz/found.txt
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from tests.fuzz.daemons import run as whole


def main() -> int:
    """The exit code: 1 where a fault was found, 2 where there is no fuzzer."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="fuzz, coverage-guided, for a bounded time")
    run.add_argument("targets", nargs="*", help="all of them by default")
    run.add_argument("--minutes", type=float, default=5.0, help="all targets together")
    run.add_argument("--runs", type=int, default=-1, help="of each target at most")
    run.add_argument("--seed", type=int, default=0, help="0: another one each time")
    run.add_argument("--out", type=Path, help="where faults and new inputs are put; a new folder by default")
    replay = commands.add_parser("replay", help="run a target on files")
    replay.add_argument("target")
    replay.add_argument("files", nargs="+", type=Path)
    keep = commands.add_parser("keep", help="take what a run found into found.txt")
    keep.add_argument("out", type=Path)
    whole.options(commands.add_parser("daemons", help="fuzz whole daemons over real libp2p on loopback"))
    chosen = parser.parse_args()
    actions = {"run": _run, "replay": _replay, "keep": _keep, "daemons": whole.main}
    return actions[chosen.command](chosen)


def _run(chosen: argparse.Namespace) -> int:
    try:
        from tests.fuzz import engine
    except ModuleNotFoundError as error:
        if error.name != "atheris":
            raise
        print("atheris is not installed, so nothing can be fuzzed: pip install atheris (Linux)", file=sys.stderr)
        return 2
    out = chosen.out or Path(tempfile.mkdtemp(prefix="peerd-fuzz-"))
    seed = chosen.seed or int(time.time())
    done = engine.fuzz_all(chosen.targets, out.absolute(), minutes=chosen.minutes, runs=chosen.runs, seed=seed)
    wrong = [text for outcome in done if (text := engine.told(outcome))]
    print("\n\n".join(["", *wrong]) if wrong else f"no faults; new inputs are in {out}, seed {seed}")
    return 1 if wrong else 0


def _replay(chosen: argparse.Namespace) -> int:
    from tests.fuzz.registry import TARGETS

    for path in chosen.files:
        TARGETS[chosen.target].run(path.read_bytes())
        print(f"{path}: all is well")
    return 0


def _keep(chosen: argparse.Namespace) -> int:
    from tests.fuzz import corpus
    from tests.fuzz.registry import TARGETS

    for target in TARGETS.values():
        found = chosen.out / target.name / "corpus"
        if found.is_dir():
            print(f"{target.name}: {len(corpus.keep_found(target, found))} new")
    return 0


if __name__ == "__main__":
    sys.exit(main())
