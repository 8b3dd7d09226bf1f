"""`python -m tests.linkfaults HOST:PORT`: a link with faults in front of HOST:PORT, steered by lines on stdin."""

from __future__ import annotations

import argparse
import sys

from tests.linkfaults.proxy import Proxy

FAULTS = {"cut": int, "vanish": int, "resume": int, "cut_after": int, "pause": float, "delay": float, "rate": float}


def endpoint(text: str) -> tuple[str, int]:
    """`host:port`."""
    host, _, port = text.rpartition(":")
    return host or "127.0.0.1", int(port)


def main() -> None:
    """Until stdin ends. A line is a fault and its numbers: `delay 2 0.5`, `cut`, `rate 100000`, `count`."""
    parser = argparse.ArgumentParser(prog="python -m tests.linkfaults", description=__doc__)
    parser.add_argument("target", type=endpoint, help="host:port that is listened in front of")
    parser.add_argument("--listen", type=endpoint, default=("127.0.0.1", 0), help="host:port; port 0 takes any")
    arguments = parser.parse_args()
    with Proxy(arguments.target, arguments.listen) as proxy:
        sys.stdout.write(f"listening {proxy.listen[0]}:{proxy.port}\n")
        sys.stdout.flush()
        for line in sys.stdin:
            fault, *numbers = line.split() or ["count"]
            if fault in FAULTS:
                getattr(proxy, fault)(*map(FAULTS[fault], numbers))
            sys.stdout.write(f"up {proxy.up.bytes} down {proxy.down.bytes} connections {proxy.connections}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
