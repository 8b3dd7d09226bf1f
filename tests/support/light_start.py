"""`peerd start` as a person types it, but with a worker without torch and a network in memory."""

import os
import sys
from pathlib import Path
from typing import Any

from peerd.cli import main
from peerd.daemon import assembly as daemon
from peerd.daemon.ports import Ports
from peerd.testing.network import MemoryNetwork

wires, real = MemoryNetwork(), Ports


def fake() -> Any:
    return real(
        transport=lambda key, network, shelf, config: wires.node(key.peer_id, shelf, network),
        prepare=lambda: None,
        worker=lambda: [sys.executable, str(Path(__file__).with_name("learning.py")), str(os.getpid())],
    )


vars(daemon)["Ports"] = fake
sys.exit(main())
