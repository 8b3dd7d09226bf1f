"""Coverage-guided fuzzing by atheris: one process imports everything instrumented, and forks a child for each target.

Forking saves each target the seconds that importing takes. A child never returns from libFuzzer; what it found lies in
`<out>/<target>/corpus`, what broke the target in `<out>/<target>/faults`, what it said in `<out>/<target>/log`.
"""

from __future__ import annotations

import io
import os
import re
import time
import traceback
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import NoReturn

import atheris

from tests.fuzz import corpus
from tests.fuzz.target import Target

HANG_SECONDS = 60  # for one input, on a machine as slow as any
RSS_MB = 4096  # torch and libp2p are in every child
PLAIN_SHARE = 0.3  # of mutations that are libFuzzer's own, which knows what its instrumentation compares


@dataclass(frozen=True, slots=True)
class Outcome:
    """What fuzzing one target gave."""

    target: str
    runs: int
    seconds: float
    edges: int
    features: int
    found: int
    faults: tuple[Path, ...]
    log: Path
    status: int


def fuzz(target: Target, out: Path, *, seconds: int, runs: int, seed: int) -> Outcome:
    """Fuzz one target in a child of this process, for so long or so often, whichever is less."""
    folder = out / target.name
    found, faults = folder / "corpus", folder / "faults"
    for path in (found, faults):
        path.mkdir(parents=True, exist_ok=True)
    before, began_at = len(list(found.iterdir())), time.monotonic()
    child = os.fork()
    if child == 0:
        _child(target, folder, [f"-max_total_time={seconds}", f"-runs={runs}", f"-seed={seed}"])
    _, status = os.waitpid(child, 0)
    text = (folder / "log").read_text(errors="replace")
    last = (re.findall(r"cov: (\d+) ft: (\d+)", text) or [("0", "0")])[-1]
    count = re.search(r"number_of_executed_units: (\d+)", text)
    return Outcome(
        target.name,
        int(count[1]) if count else 0,
        time.monotonic() - began_at,
        int(last[0]),
        int(last[1]),
        len(list(found.iterdir())) - before,
        tuple(sorted(faults.iterdir())),
        folder / "log",
        os.waitstatus_to_exitcode(status),
    )


def _child(target: Target, folder: Path, flags: Sequence[str]) -> NoReturn:
    """Never comes back, whatever happens: this is a copy of somebody else's process."""
    try:
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        arguments = [
            target.name, *flags, f"-max_len={target.max_bytes}", f"-timeout={HANG_SECONDS}", f"-rss_limit_mb={RSS_MB}",
            f"-artifact_prefix={folder / 'faults'}/", "-print_final_stats=1", *_dictionary(target, folder),
            str(folder / "corpus"), str(corpus.write_out(target, folder / "kept")),
        ]  # fmt: skip

        def mutate(data: bytes, max_size: int, seed: int) -> bytes:
            dice = Random(seed)
            if dice.random() < PLAIN_SHARE:
                return bytes(atheris.Mutate(data, max_size))
            return target.mutate(data, dice)[:max_size]

        def run(data: bytes) -> None:
            try:
                target.run(data)
            except Exception:
                (folder / "faults" / f"fault-{corpus.name_of(data)}").write_bytes(data)
                raise

        atheris.Setup(arguments, run, custom_mutator=mutate)
        atheris.Fuzz()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(99)


def _dictionary(target: Target, folder: Path) -> list[str]:
    """The option that names libFuzzer's dictionary, which must not be empty."""
    lines = ['"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in target.words]
    (folder / "words").write_text("".join(lines))
    return [f"-dict={folder / 'words'}"] if lines else []


def instrumented() -> Mapping[str, Target]:
    """All targets, our own source instrumented; nothing of it may have been imported before."""
    with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["peerd", "p2pfinetune", "bootstrap"]):
        from tests.fuzz.registry import TARGETS
    return TARGETS


def fuzz_all(names: Sequence[str], out: Path, *, minutes: float, runs: int, seed: int) -> list[Outcome]:
    """Each target for its share of the time, the report growing line by line."""
    targets = instrumented()
    chosen = [targets[name] for name in names] or list(targets.values())
    share = max(1, round(minutes * 60 / len(chosen)))
    print(f"{'target':<18} {'runs':>9} {'a second':>9} {'edges':>6} {'features':>8} {'new':>5}  faults", flush=True)
    outcomes = []
    for target in chosen:
        done = fuzz(target, out, seconds=share, runs=runs, seed=seed)
        outcomes.append(done)
        speed = done.runs / max(done.seconds, 0.001)
        print(
            f"{done.target:<18} {done.runs:>9} {speed:>9.0f} {done.edges:>6} {done.features:>8} {done.found:>5}"
            f"  {len(done.faults) or 'none'}",
            flush=True,
        )
    return outcomes


def told(outcome: Outcome) -> str:
    """What is wrong with one target, for people; empty where nothing is."""
    if not outcome.faults and outcome.status == 0:
        return ""
    lines = [f"{outcome.target}: the fuzzer ended with {outcome.status}; its log is {outcome.log}"]
    lines += outcome.log.read_text(errors="replace").splitlines()[-40:]
    for fault in outcome.faults:
        lines += ["", f"{fault} holds", *corpus.hex_dump(fault.read_bytes())]
        lines += [f"again with: python -m tests.fuzz replay {outcome.target} {fault}"]
    return "\n".join(lines)
