"""A thread of its own for a call that may hang in a disk or a mount: it is awaited, but never holds up the end.

The threads of `asyncio.to_thread` are joined when the loop closes and when the interpreter ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


async def apart(function: Callable[..., Result], *arguments: object) -> Result:
    """What the function returns; raises what it raised."""
    loop = asyncio.get_running_loop()
    done, results = asyncio.Event(), Future[Result]()

    def call() -> None:
        try:
            results.set_result(function(*arguments))
        except BaseException as error:  # the thread's border: it is raised again on the other side
            results.set_exception(error)
        with contextlib.suppress(RuntimeError):  # the loop has closed
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=call, name=f"apart: {getattr(function, '__name__', 'call')}", daemon=True).start()
    await done.wait()
    return results.result()
