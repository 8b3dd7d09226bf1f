"""What the machine has for bf16. The one place that asks it, by public names alone; `precision` says what follows."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from p2pfinetune.model.precision import missing_on_cpu

CPUINFO = Path("/proc/cpuinfo")


def missing(device: torch.device) -> str:
    """Why this device is not to multiply in bf16; empty if it is quick at it by all that it says of itself."""
    if device.type == "cuda":
        has_units = torch.cuda.is_bf16_supported(including_emulation=False)
        return "" if has_units else "this GPU has no units for bf16"
    if device.type != "cpu":
        return f"bf16 was never tried on {device.type}"
    try:
        cpuinfo = CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        cpuinfo = ""
    return missing_on_cpu(cpuinfo, torch.backends.cpu.get_cpu_capability(), os.environ)
