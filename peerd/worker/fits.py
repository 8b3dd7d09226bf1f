"""Whether the model fits: asked before it is loaded, of the machine, the checkpoint and `p2pfinetune.model.fitting`.

The sum needs the model's configuration and the headers of its weights, so a model that is too large is refused within
a second, in words, and not after minutes by a kernel. What is decided is told to the daemon at once: if the sum was
wrong and this worker dies of it, the next one is told what to avoid.

Asked of the machine: on a processor, what `ram_limit` lets this process have; on a GPU, what is free there now.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from p2pfinetune.model.fitting import (
    AskedOfMemory,
    Fit,
    fitting,
    remedies,
)
from p2pfinetune.model.memory import LIBRARIES, MIB, Setting
from p2pfinetune.model.precision import Precision
from p2pfinetune.model.shape import Shape, shape_of
from p2pfinetune.options import AdapterSpec, sections
from p2pfinetune.training.trainers import chosen_kind
from peerd.config import Config
from peerd.errors import UsageError
from peerd.status import MemoryNow
from peerd.worker import ram_limit
from peerd.worker.messages import Open
from peerd.worker.planned import Planned

if TYPE_CHECKING:
    import torch

LEAST: Final = LIBRARIES["cpu"]


def must_hold_libraries(config: Config) -> None:
    """UsageError if not even they fit; before they are imported, which would be a death without a word."""
    room = room_on_cpu(config)
    if room and room < LEAST:
        raise UsageError(
            f"training may take {room // MIB} MiB, and its libraries alone need {LEAST // MIB}",
            f"--worker-memory {2 * LEAST // MIB} or more, if this machine has so much to spare",
        )


def planned(job: Open, device: torch.device, precision: Precision, folder: Path) -> Planned:
    """How it is run. ModelError, with every way out, if it does not fit."""
    from p2pfinetune.round.saved import plan_of

    config, shape = job.config, shape_of(folder, job.config.targets)
    setting, asked = setting_of(config, device.type, precision, shape), asked_of(config)
    before = plan_of(Path(job.checkpoint)) if job.checkpoint is not None else None
    room = room_on_cpu(config) if device.type == "cpu" else room_on(device)
    found = fitting(shape, setting, asked, room, before=before, lighter_than=job.lighter_than)
    return Planned(plan=found.plan, memory=told(found), is_last=found.is_last, ways=ways(shape, setting, asked, found))


def told(found: Fit) -> MemoryNow:
    """For the status."""
    needs = found.needs
    return MemoryNow(
        needed_bytes=needs.total if needs is not None else None,
        available_bytes=found.available or None,
        parts=dict(needs.parts) if needs is not None else {},
        said=found.said,
        measures=found.why,
    )


def ways(shape: Shape | None, setting: Setting, asked: AskedOfMemory, found: Fit) -> list[str]:
    """What takes less than this, for a person, should it be too much all the same."""
    if shape is None or found.needs is None:
        return []
    less = remedies(shape, setting, asked, found.needs.total - 1)
    return [way.partition(": ")[2] or way for way, needs in less if needs is not None]


def setting_of(config: Config, device: str, precision: Precision, shape: Shape | None) -> Setting:
    """What is trained, as far as memory is concerned; a twin that may train is counted."""
    kind = chosen_kind(config)
    spec = sections.of(AdapterSpec, config)
    longest = shape.context if shape is not None and shape.context else config.context
    return Setting(
        device=device,
        precision=precision,
        context=min(config.context, longest),
        sequences=config.batch_size * config.accumulation,
        moments=kind.moments,
        has_gradients=kind.has_gradients,
        rank=sum(spec.rank_of(expert) for expert in range(spec.experts)),  # as if each layer had all
        neighbours=config.max_neighbours,
        has_twin=config.twin != "off",
    )


def asked_of(config: Config) -> AskedOfMemory:
    """What the person said."""
    return AskedOfMemory(checkpointing=config.checkpointing, quantize=config.quantize)


def room_on_cpu(config: Config) -> int:
    """Bytes; 0 if the system does not say."""
    return ram_limit.limit_mib(config.worker_memory) * MIB


def room_on(device: torch.device) -> int:
    """Bytes that are free on an accelerator; 0 if it does not say."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(torch.mps.recommended_max_memory()) if device.type == "mps" else 0
