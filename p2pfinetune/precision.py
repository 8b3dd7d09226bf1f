"""In which numbers a model is run: `fp32`, the same on every processor to rounding, or `bf16`, where that is quicker.

Whoever loads a base says it, and everything that runs the base follows: no processor is asked behind anybody's back.
"""

from __future__ import annotations

from typing import Literal

Precision = Literal["fp32", "bf16"]
