"""Files from outside are used in a child before they are used here.

llama.cpp checks much of a GGUF, but not all, and ends its process over the rest: a vocabulary with two tokens alike, a
layer too many, an epsilon that is no number. `first_use` is what the child does. A bundle's own files were tried when
it was built.
"""

import json
from collections.abc import Sequence
from pathlib import Path

from runtime.child import Child, ChildEnded
from runtime.errors import ModelError
from runtime.extent import Extent

_TASK = "runtime.program.first_use:use"
# What a small context of any model and the program itself need, with much to spare.
MEMORY_BYTES_BESIDE_FILES = 500 << 20
# A disk that gives less than so many bytes a second is none to run a model from.
_BYTES_A_SECOND = 20_000_000
_SECONDS_BESIDE_READING = 20.0


NO_COMPANIONS: dict[str, list[object] | None] = {"draft": None, "projector": None, "adapters": []}


class NotTried(Exception):
    """The program to try with doesn't run on this computer; nothing is known of the files."""


class Trial:
    """A child that uses a model and its companions: begun where a process may be started, finished by who may wait."""

    def __init__(
        self,
        weights: Extent,
        *,
        draft: Extent | None = None,
        projector: Extent | None = None,
        adapters: Sequence[Extent] = (),
        blamed: Sequence[Path] = (),
        program: Sequence[str] = (),
        is_sandboxed: bool = True,
    ) -> None:
        """Begin. `program` starts the program, by default this one; `blamed` are the files named, by default all.

        In the sandbox the child can read these files and do nothing else.

        Raises NotTried when the program can't be started.
        """
        files = [weights, *(file for file in (draft, projector) if file), *adapters]
        self._request = {
            "weights": _packed(weights),
            "draft": _packed(draft),
            "projector": _packed(projector),
            "adapters": [_packed(adapter) for adapter in adapters],
            "is_sandboxed": is_sandboxed,
        }
        self._num_bytes = sum(file.size for file in files)
        self._named = " with ".join(str(path) for path in blamed or [file.path for file in files])
        try:
            self._child = Child(_TASK, memory_bytes=MEMORY_BYTES_BESIDE_FILES + self._num_bytes, program=program)
        except OSError as error:
            raise NotTried(str(error)) from error

    def finish(self) -> None:
        """Wait for the outcome. Raises ModelError when the files can't be used, NotTried when nothing is known."""
        seconds = _SECONDS_BESIDE_READING + self._num_bytes / _BYTES_A_SECOND
        try:
            answer = self._child.ask(json.dumps(self._request).encode(), seconds)
        except ChildEnded as end:
            if not end.has_started:
                raise NotTried(str(end)) from end
            raise ModelError(f"{self._named}: this model can't be used: llama.cpp {end}") from end
        finally:
            self._child.close()
        if answer:
            raise ModelError(answer.decode())


def _packed(extent: Extent | None) -> list[str | int] | None:
    return [str(extent.path), extent.offset, extent.size] if extent else None
