"""Uses a model once, by the very runtime that it is to be packed with, before it is packed.

A bundle's own files aren't tried again when it is launched.
"""

import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bundler.errors import GGUFError
from bundler.pack.pack import RuntimePack
from bundler.progress import Progress
from bundler.sources.model import SourcedModel
from runtime.container import MemberKind
from runtime.errors import ModelError
from runtime.extent import Extent
from runtime.program.trial import NotTried, Trial


def try_model(
    pack: RuntimePack,
    model: SourcedModel,
    companions: Sequence[tuple[MemberKind, SourcedModel]],
    progress: Progress,
) -> None:
    """Raise GGUFError when the model and its companions can't be used with this pack.

    A pack for another platform doesn't run here: then the model's header is all that was checked.
    """
    if pack.fact("platform") != f"{sys.platform}-{platform.machine()}":
        return
    of_kind = {kind: [_whole(file) for each, file in companions if each is kind] for kind in MemberKind}
    progress.step(f"trying {model.file_name}")
    try:
        with tempfile.TemporaryDirectory(prefix="holdall-") as folder:
            Trial(
                _whole(model),
                draft=next(iter(of_kind[MemberKind.DRAFT]), None),
                projector=next(iter(of_kind[MemberKind.PROJECTOR]), None),
                adapters=of_kind[MemberKind.LORA],
                program=[str(_runtime(pack, Path(folder)))],
            ).finish()
    except ModelError as error:
        raise GGUFError(str(error)) from error
    except (NotTried, OSError) as error:
        progress.note(f"warning: this runtime doesn't run here, so {model.file_name} could not be tried: {error}")


def _whole(file: SourcedModel) -> Extent:
    return Extent(file.path, 0, file.size)


def _runtime(pack: RuntimePack, folder: Path) -> Path:
    """Return the pack as an executable: a bundle without anything else in it."""
    program = folder / "runtime"
    with program.open("wb") as file:
        for part in (pack.stub, pack.pkg):
            with part.open("rb") as source:
                shutil.copyfileobj(source, file)
    program.chmod(0o700)
    return program
