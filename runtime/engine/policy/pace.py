"""How many threads the next step gets: as many as the machine can give at this moment.

llama.cpp's threads meet at a barrier after every operation and spin there. As long as each has a processor of its own
that is the fastest way; as soon as one has to share, all wait for it at every barrier, some hundred times a token.
Measured with SmolLM2-135M on two processors, two threads against one: 144 to 126 tokens/s on an idle machine, but 30 to
128 beside one busy process and 5 to 88 beside two. So a thread too many costs far more than one too few, and the
number has to follow the machine, not the number of its processors.

Two signs are read between steps, where none of our threads computes:

- how many tasks want to run right now, which Linux counts for us (/proc/loadavg, the figure before the slash). One is
  the reader; the others are what our threads would have to share with. A busy process is there each time one looks, a
  passing one isn't, so the least of the last few counts is believed. It is at hand before the first step is computed.
- how much processor time the step got of what its threads could have used. It needs no help of the system and counts
  only what happens on our own processors, so it serves where the count doesn't: in a container that has a part of its
  host's processors, on a system that reports none, or when the kernel puts two of our threads on one processor. But it
  comes after the step. Where it says that threads were kept waiting, one is taken away for a while, each time for
  longer.

Policy only; `runtime/engine/threads.py` reads the system.
"""

from collections import deque

_NUM_COUNTS = 4
_STARVED = 0.8  # below this share of their processor time, threads wait for each other; undisturbed they get 0.98
_WINDOW_SECONDS = 0.1  # a step or two may be disturbed by what passes
_FIRST_HOLD_SECONDS = 0.1  # a thread given up in error costs little; each time that it was right, twice as long
_LAST_HOLD_SECONDS = 8.0


class Pace:
    """Decides the number of threads, 1 to `max_threads`, on `num_cpus` processors that this process may use."""

    def __init__(self, max_threads: int, num_cpus: int) -> None:
        self._max_threads = max_threads
        self._num_cpus = num_cpus
        self._counts: deque[int] = deque(maxlen=_NUM_COUNTS)
        self._wanted_seconds = self._got_seconds = 0.0
        self._cap = max_threads
        self._capped_until = 0.0
        self._hold_seconds = _FIRST_HOLD_SECONDS

    def forget(self) -> None:
        """The engine was idle: what was counted before says nothing about now."""
        self._counts.clear()

    def observe_tasks(self, num_others: int | None) -> None:
        """Take a count of the tasks beside ours that want to run; None where the system reports none."""
        if num_others is not None:
            self._counts.append(num_others)

    def num_threads(self, now: float) -> int:
        """Return the number for the next step; `now` in seconds of the clock that `observe_step` uses."""
        if self._cap < self._max_threads and now >= self._capped_until:
            self._cap += 1
            self._capped_until = now + self._hold_seconds
        free = self._num_cpus - min(self._counts, default=0)
        return max(1, min(self._max_threads, self._cap, free))

    def observe_step(self, num_threads: int, wall_seconds: float, cpu_seconds: float, now: float) -> None:
        """Take what a step of so many threads got; `cpu_seconds` is that of the whole process."""
        if num_threads == 1:
            return
        self._wanted_seconds += num_threads * wall_seconds
        self._got_seconds += cpu_seconds
        if self._wanted_seconds < num_threads * _WINDOW_SECONDS:
            return
        share = self._got_seconds / self._wanted_seconds
        self._wanted_seconds = self._got_seconds = 0.0
        if share < _STARVED:
            self._cap = num_threads - 1
            self._capped_until = now + self._hold_seconds
            self._hold_seconds = min(2 * self._hold_seconds, _LAST_HOLD_SECONDS)
        elif self._cap == self._max_threads:
            self._hold_seconds = _FIRST_HOLD_SECONDS
