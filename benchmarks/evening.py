"""Three people, an evening, a real small model: what a user does, with real daemons, and what comes of it.

    python -m benchmarks.evening --model FOLDER --rounds 4

Makes three folders (`benchmarks.people`), starts a rendezvous node and three daemons on this machine, waits for the
rounds, and then asks as a user would: status, `peerd eval` on questions that are in no folder, the OpenAI client over
`peerd serve`, and the exported GGUF adapter in llama.cpp. Prints all of it, and fails if something is not there. The
same commands work by hand; they are printed as they are typed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import people
from p2pfinetune.system import interpreter

PEERD = interpreter.command("-m", "peerd")
BOOTSTRAP = interpreter.command("-m", "bootstrap")
LOOK_SECONDS = 5.0
ASKED = 60  # conversations to measure on
QUESTIONS = ("What about the ferry?", "Can you tell me of the rye loaf?", "Who are you?")


def typed(words: Sequence[str], **given: Any) -> str:
    """Run a command as a person types it; what it printed. Fails as it fails."""
    print(f"$ peerd {shlex.join(words)}", flush=True)
    found = subprocess.run([*PEERD, *words], capture_output=True, text=True, check=False, **given)  # noqa: S603  # ourselves
    if found.returncode:
        raise SystemExit(f"peerd {words[0]} ended with {found.returncode}:\n{found.stdout}{found.stderr}")
    return found.stdout


class Evening:
    """The processes, and what is asked of them."""

    def __init__(self, folder: Path, model: str, options: Sequence[str]) -> None:
        self.folder, self.model, self.options = folder, model, options
        self.processes: list[subprocess.Popen[str]] = []
        self.homes = {name: folder / "homes" / name for name in people.TRADES}

    def start(self, rounds: int) -> None:
        (self.folder / "homes").mkdir()
        node = self.spawn(
            [*BOOTSTRAP, "start", "--listen", "/ip4/127.0.0.1/tcp/0", "--home", str(self.folder / "node"), "--json"]
        )
        address = next(one for one in self.document(node)["addresses"] if "/tcp/" in one)
        for name in people.TRADES:
            data = people.make(name, self.folder / "text" / name)
            words = [
                "start",
                "--home",
                str(self.homes[name]),
                "--data",
                str(data),
                "--model",
                self.model,
                "--name",
                name,
            ]
            words += [
                "--bootstrap",
                address,
                "--listen",
                "/ip4/127.0.0.1/tcp/0",
                "--rounds",
                str(rounds),
                *self.options,
            ]
            print(f"$ peerd {shlex.join(words)}", flush=True)
            self.spawn([*PEERD, *words])

    def spawn(self, words: Sequence[str]) -> subprocess.Popen[str]:
        log = (self.folder / f"{len(self.processes)}.log").open("w")
        made = subprocess.Popen(words, stdout=subprocess.PIPE if "--json" in words else log, stderr=log, text=True)  # noqa: S603  # ourselves
        self.processes.append(made)
        return made

    def document(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        """What a process says of itself when it is ready; one JSON document, over some lines."""
        assert process.stdout is not None
        text = ""
        for line in process.stdout:
            text += line
            with contextlib.suppress(ValueError):
                return dict(json.loads(text)["data"])
        raise SystemExit(f"{process.args} did not start; see {self.folder}")

    def until(self, rounds: int, hours: float) -> None:
        """Wait until everybody has done that many; says how far they are."""
        deadline, said = time.monotonic() + 3600 * hours, ""
        while True:
            now = {name: self.status(name) for name in self.homes}
            line = ", ".join(f"{name} round {one['round']} {one['state']}" for name, one in now.items() if one)
            if line != said:
                print(f"{time.strftime('%H:%M:%S')}  {line}", flush=True)
                said = line
            if all(one and (one["round"] > rounds or one["state"] == "resting") for one in now.values()):
                return
            if time.monotonic() > deadline:
                raise SystemExit("it took too long")
            for process in self.processes:
                if process.poll() is not None:
                    raise SystemExit(f"{process.args} ended with {process.returncode}; see {self.folder}")
            time.sleep(LOOK_SECONDS)

    def status(self, name: str) -> dict[str, Any]:
        words = [*PEERD, "status", "--json", "--home", str(self.homes[name])]
        found = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603  # ourselves
        return dict(json.loads(found.stdout).get("data") or {}) if found.stdout else {}

    def answers_over_openai(self, home: Path) -> list[str]:
        """What an editor or a chat window would show; the answers of the personal model."""
        from openai import OpenAI

        print("$ peerd serve --port 0", flush=True)
        opened = self.document(self.spawn([*PEERD, "serve", "--port", "0", "--home", str(home), "--json"]))
        key = Path(opened["key_file"]).read_text(encoding="utf-8").strip()
        client = OpenAI(base_url=f"{opened['url']}/v1", api_key=key)
        print("models over the OpenAI API:", ", ".join(model.id for model in client.models.list()))
        answers = []
        for question in QUESTIONS:
            for model in ("base", "personal"):
                said = client.chat.completions.create(
                    model=model,
                    messages=[{"role": "user", "content": question}],
                    stream=True,
                    max_tokens=48,
                    temperature=0,
                )
                answer = "".join(chunk.choices[0].delta.content or "" for chunk in said if chunk.choices)
                print(f"{model:>9}: {question} -> {answer.strip()!r}", flush=True)
            answers.append(answer)
        return answers

    def answers_in_llama_cpp(self, home: Path, expected: list[str]) -> None:
        """The adapter as a GGUF, in llama.cpp on the base as a GGUF: the same answers, word for word."""
        try:
            import xllamacpp as llama
        except ImportError:
            print("xllamacpp IS NOT INSTALLED, so nothing was tried in llama.cpp: pip install xllamacpp")
            return
        made = {}
        for kind, which in (("gguf", "base"), ("gguf-lora", "personal")):
            folder = self.folder / kind
            words = ["export", str(folder), "--format", kind, "--which", which, "--home", str(home)]
            print(typed(words))
            made[kind] = next(folder.glob("*.gguf"))
        parameters = llama.CommonParams()
        parameters.model.path, parameters.n_ctx, parameters.warmup = str(made["gguf"]), 512, False
        parameters.lora_adapters = [llama.CommonAdapterLoraInfo(str(made["gguf-lora"]), 1.0)]
        server = llama.Server(parameters)
        for question, answer in zip(QUESTIONS, expected, strict=True):
            asked = {"messages": [{"role": "user", "content": question}], "temperature": 0.0, "max_tokens": 48}
            found = server.handle_chat_completions(asked)
            said = (json.loads(found) if isinstance(found, (str, bytes)) else found)["choices"][0]["message"]["content"]
            same = "the same" if said == answer else "ANOTHER ANSWER"
            print(f"llama.cpp: {question} -> {said.strip()!r}  ({same})", flush=True)

    def stop(self) -> None:
        for process in self.processes:
            process.send_signal(signal.SIGINT)
        for process in self.processes:
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", required=True, help="Folder, hub name or .gguf file.")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path("reports/evening"), help="New; everything is kept there.")
    parser.add_argument("--hours", type=float, default=1.0, help="The longest wait.")
    parser.add_argument("options", nargs="*", help="More options of peerd start, behind --.")
    given = parser.parse_args()
    given.folder.mkdir(parents=True)
    evening = Evening(given.folder.absolute(), given.model, given.options)
    try:
        evening.start(given.rounds)
        evening.until(given.rounds, given.hours)
        for name, home in evening.homes.items():
            print(typed(["status", "--home", str(home)]))
            asked = given.folder / f"asked-{name}.jsonl"
            asked.write_text(questions(name), encoding="utf-8")
            print(typed(["eval", str(asked), "--home", str(home)]))
        first = next(iter(evening.homes.values()))
        print(typed(["eval", "--on", "heldout", "--home", str(first)]))
        said = evening.answers_over_openai(first)
        evening.answers_in_llama_cpp(first, said)
    finally:
        evening.stop()
    return 0


def questions(name: str) -> str:
    """Conversations of that trade, by other dice than the folder's."""
    import random

    dice = random.Random(f"asked {name}")
    return "".join(json.dumps({"messages": people.chat(dice, people.TRADES[name])}) + "\n" for _ in range(ASKED))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    sys.exit(main())
