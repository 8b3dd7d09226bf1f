"""Real daemons as a person starts them: `peerd start` in processes of their own, libp2p on loopback, a tiny model.

Starting one costs some seconds of CPU time (torch, transformers, libp2p), so tests of a file share what they can.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import msgspec
import pytest

from p2pfinetune.system import interpreter
from peerd.config import Config
from peerd.config_file import write_config
from peerd.control.client import Client
from peerd.errors import NotHealthy, NotRunning, PeerdError
from peerd.machine.lock import holder
from peerd.machine.paths import Paths
from peerd.store.sqlite import SqliteStore

PATIENCE_SECONDS = 180.0  # on a machine that is busy with other things
LOOK_SECONDS = 0.2
WORDS = {
    "water": [
        "river",
        "boat",
        "lake",
        "rain",
        "tide",
        "harbour",
        "wave",
        "sail",
        "fish",
        "net",
        "shore",
        "storm",
        "deck",
        "anchor",
        "salt",
    ],
    "stone": [
        "granite",
        "quarry",
        "wall",
        "arch",
        "tower",
        "chisel",
        "marble",
        "slab",
        "gravel",
        "road",
        "brick",
        "mason",
        "vault",
        "cliff",
        "ore",
    ],
}


def write_text(folder, kind, seed):
    """Sentences of one kind of words: enough for four splits at a context of 32 tokens."""
    dice = random.Random(seed)
    folder.mkdir(parents=True)
    for number in range(24):
        sentences = (" ".join(dice.choices(WORDS[kind], k=9)).capitalize() + "." for _ in range(12))
        (folder / f"{number}.txt").write_text("\n".join(sentences))
    return folder


def make_model(folder):
    """A random Llama of some ten thousand parameters, and a byte-level tokenizer."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

    trained = ByteLevelBPETokenizer()
    words = [" ".join(words) for words in WORDS.values()]
    trained.train_from_iterator(words, vocab_size=300, min_frequency=1, show_progress=False, special_tokens=["<|end|>"])
    PreTrainedTokenizerFast(tokenizer_object=trained._tokenizer, eos_token="<|end|>").save_pretrained(folder)
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = AutoConfig.for_model("llama", vocab_size=300, max_position_embeddings=64, **shape, **ends)
        AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


def is_gone(process_id):
    """Whether a process ends within ten seconds."""
    deadline = time.monotonic() + 10
    while Path(f"/proc/{process_id}").exists() and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    return not Path(f"/proc/{process_id}").exists()


class Home:
    """One daemon's folder, and its process where one runs."""

    def __init__(self, folder, config, prefix=()):
        self.folder, self.config, self.paths = folder, config, Paths.of(folder)
        self.prefix = list(prefix)  # of every command: where it runs
        self.process, self.output = None, folder.with_suffix(".out")
        self.paths.prepare()
        write_config(self.paths.config, config)

    def change(self, **options):
        self.config = msgspec.structs.replace(self.config, **options)
        write_config(self.paths.config, self.config)

    def start(self, fault=""):
        """`fault`: see peerd/machine/faults.py."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                self.command("start"),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **({"PEERD_FAULT": fault} if fault else {})},
            )
        return self

    def command(self, name, *arguments):
        return [*self.prefix, *interpreter.command("-m", "peerd"), name, "--home", str(self.folder), *arguments]

    def run(self, name, *arguments):
        """A command of the CLI to its end."""
        return subprocess.run(self.command(name, *arguments), capture_output=True, text=True, timeout=60, check=False)

    def json(self, name, *arguments):
        return json.loads(self.run(name, "--json", *arguments).stdout)

    def client(self):
        return Client(home=self.folder)

    def status(self):
        """None while nobody answers."""
        try:
            with self.client() as client:
                return client.status()
        except (NotRunning, NotHealthy, PeerdError):
            return None

    def until(self, is_so):
        """The first status for which `is_so` holds; the process has to live."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            if self.process is not None and self.process.poll() is not None:
                pytest.fail(f"{self.folder.name} ended with {self.process.returncode}:\n{self.said()}")
            status = self.status()
            if status is not None and is_so(status):
                return status
            time.sleep(LOOK_SECONDS)
        pytest.fail(f"{self.folder.name} did not get there: {self.status()}\n{self.said()}")

    def ready(self):
        return self.until(lambda status: status.state != "starting")

    def rounds(self):
        with self.client() as client:
            return client.rounds()

    def said(self):
        return self.output.read_text()[-4000:]

    def stop(self):
        """In order; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)

    def kill(self):
        """As the kernel does for lack of memory: the daemon alone, nothing is told."""
        self.process.kill()
        self.process.wait(10)

    def checkpoint(self):
        """Of a daemon that does not run."""
        assert holder(self.paths.lock) is None
        store = SqliteStore(self.paths.database, epoch=1)
        try:
            return store.checkpoint()
        finally:
            store.close()

    def children(self):
        """Processes whose parent is the daemon."""
        return [
            int(child)
            for child in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        ]

    def end(self):
        """Whatever state it is in."""
        if self.process is not None and self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGCONT)
                self.process.terminate()
            try:
                self.process.wait(16)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait(5)


class Town:
    """Homes on one machine that share a model."""

    def __init__(self, folder, model):
        self.folder, self.model, self.homes = folder, model, []

    def home(self, name, kind="water", seed=0, prefix=(), **options):
        text = write_text(self.folder / f"{name}-text", kind, seed)
        defaults = {
            "name": name,
            "data": (str(text),),
            "model": str(self.model),
            "listen": ("/ip4/127.0.0.1/tcp/0",),
            "threads": 1,
            "precision": "fp32",
            "twin": "off",  # what a clock says of tiny models decides nothing here
            "context": 32,
            "batch_size": 2,
            "steps_per_round": 2,
            "warmup_rounds": 1,
            "collect_seconds": 4.0,
            "patience": 1000,
        }
        home = Home(self.folder / name, Config(**{**defaults, **options}), prefix)
        self.homes.append(home)
        return home


@pytest.fixture(name="is_gone")
def gone():
    return is_gone


@pytest.fixture(scope="session")
def tiny_model():
    folder = Path(tempfile.mkdtemp(prefix="peerd-model-"))
    yield make_model(folder)
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def town(tiny_model):
    folder = Path(tempfile.mkdtemp(prefix="peerd-"))  # short, since a socket's path has to be
    found = Town(folder, tiny_model)
    yield found
    for home in found.homes:
        home.end()
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def alice(town):
    home = town.home("alice", "water", seed=1).start()
    home.ready()
    return home


@pytest.fixture(scope="module")
def bob(town, alice):
    return town.home("bob", "water", seed=2, peer=tuple(alice.status().addresses)).start()
