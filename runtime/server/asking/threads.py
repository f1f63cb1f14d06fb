"""Where the work for a request is done that takes longer than the event loop can wait.

Large requests share a few threads of their own: they wait for each other and never hold up small ones, and the memory
that they take meanwhile is bounded.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

SMALL = 128 * 1024  # bytes or characters; the way to a thread and back costs about what parsing these does
_for_large = ThreadPoolExecutor(2, thread_name_prefix="large")  # starts a thread when it is first needed


async def in_thread(size: int, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """Return what `work` returns, done on a thread; `size` is how large what it works on is."""
    if size <= SMALL:
        return await asyncio.to_thread(work, *args, **named)
    return await asyncio.get_running_loop().run_in_executor(_for_large, partial(work, *args, **named))
