"""Runtime pack + model → one executable: streams in, records out, one pass over the model.

`plan` (what goes in) and `write` (bytes to any seekable file) are pure of the file system's accidents; `weld` adds
them: a temporary file beside the target, synced, then renamed, so that a build that fails, is interrupted or runs out
of disk leaves the old bundle as it was and no half file.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from bundler.bundle.gguf import ModelFacts
from bundler.errors import SourceError, TargetError
from bundler.pack.pack import RuntimePack
from bundler.progress import ByteCounter, Progress
from bundler.recipe import Recipe
from bundler.sources.model import SourcedModel, read_chunks
from runtime.container import ALIGNMENT, ARGS_NAME, JSON, RUNTIME_NAME, Manifest, Member, MemberKind, Writer

_DIRECTORY_BYTES = 64 << 10  # more than the central directory of a dozen members


@dataclass(frozen=True)
class Weldment:
    """All that one bundle is made of. `payloads` are the members' bytes, in the manifest's order."""

    stub: Path
    manifest: Manifest
    payloads: tuple[Path | bytes, ...]

    def size_bound(self) -> int:
        """Return a size in bytes that the bundle will not exceed."""
        members = sum(member.size + 2 * ALIGNMENT for member in self.manifest.members)
        return _file_size(self.stub) + 2 * ALIGNMENT + members + _DIRECTORY_BYTES


def plan(
    recipe: Recipe,
    pack: RuntimePack,
    model: SourcedModel,
    facts: ModelFacts,
    companions: Sequence[tuple[MemberKind, SourcedModel]] = (),
    media: Sequence[str] = (),
) -> Weldment:
    """Decide what goes into the bundle and in which order; reads the pack to hash it, but not the model.

    `companions` are the GGUF files beside the model: a draft model, LoRA adapters, a projector with which it reads
    `media` as well.
    """
    parts: list[tuple[Member, Path | bytes]] = []
    if recipe.args:
        parts.append(_from_bytes(ARGS_NAME, MemberKind.ARGS, "".join(f"{arg}\n" for arg in recipe.args).encode()))
    parts.append((Member(model.file_name, MemberKind.MODEL, model.size, model.sha256), model.path))
    for kind, companion in companions:
        name = f"{kind.value}-{companion.file_name.removeprefix(f'{kind.value}-')}"
        parts.append((Member(name, kind, companion.size, companion.sha256), companion.path))
    texts = {f"LICENSES/{name}": text for name, text in pack.licenses}
    if model.license_text is not None:
        texts[f"LICENSES/{model.file_name}.txt"] = model.license_text.encode()
    parts += [_from_bytes(name, MemberKind.LICENSE, text) for name, text in sorted(texts.items())]
    parts.append((_hashed(RUNTIME_NAME, MemberKind.RUNTIME, pack.pkg), pack.pkg))
    manifest = Manifest(
        name=recipe.named_after(model.file_name),
        description=recipe.description or facts.description,
        model=_model_facts(model, facts) | ({"media": ", ".join(media)} if media else {}),
        defaults=dict(recipe.defaults),
        members=tuple(member for member, _ in parts),
        license=recipe.license or facts.license or model.license,
        source=recipe.origin or model.origin,
        platform=pack.fact("platform"),
        tool_version=pack.fact("tool_version"),
        face=recipe.face,
    )
    return Weldment(pack.stub, manifest, tuple(payload for _, payload in parts))


def write(weldment: Weldment, out: IO[bytes], counter: ByteCounter) -> None:
    """Write the whole bundle to an empty, seekable file."""
    for chunk in _counted(read_chunks(weldment.stub), counter):
        out.write(chunk)
    writer = Writer(out, weldment.manifest)
    try:
        for member, payload in zip(weldment.manifest.members, weldment.payloads, strict=True):
            chunks = [payload] if isinstance(payload, bytes) else read_chunks(payload)
            writer.add(member.name, _counted(chunks, counter))
        writer.close()
    except BaseException:
        writer.abandon()
        raise


def weld(weldment: Weldment, target: Path, progress: Progress) -> None:
    """Make the bundle at `target`, whole or not at all; TargetError when it can't be written there."""
    check_target(target, weldment)
    total = _file_size(weldment.stub) + sum(member.size for member in weldment.manifest.members)
    with _replacing(target, weldment.size_bound()) as out, progress.bytes(f"writing {target}", total) as counter:
        write(weldment, out, counter)


def check_target(target: Path, weldment: Weldment | None = None) -> None:
    """Raise TargetError when a bundle can't go there, before any long work; with a weldment, nor over its own parts."""
    if target.is_dir():
        raise TargetError(f"{target}: is a directory; name a file in it with -o")
    parent = next(folder for folder in (target.absolute().parent, *target.absolute().parents) if folder.exists())
    if not parent.is_dir():
        raise TargetError(f"{target}: {parent} is not a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise TargetError(f"{target}: can't write in {parent}; choose another place with -o")
    for part in weldment.payloads if weldment and target.exists() else ():
        if isinstance(part, Path) and part.samefile(target):
            raise TargetError(f"{target}: is what the bundle is made from; choose another place with -o")


@contextmanager
def _replacing(target: Path, size_bound: int) -> Iterator[IO[bytes]]:
    """Yield an empty file that becomes `target` if the block ends well, and vanishes, with new folders, if not."""
    made: list[Path] = []
    temporary: Path | None = None
    try:
        for folder in reversed([target.parent, *target.parent.parents]):
            if not folder.exists():
                folder.mkdir()
                made.append(folder)
        _require_space(target, size_bound)
        with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fchmod(file.fileno(), 0o755)
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync_folder(target.parent)
    except BaseException as error:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        for folder in reversed(made):
            folder.rmdir()
        if isinstance(error, OSError):
            raise TargetError(
                f"{target}: can't be written ({error.strerror or error}); choose another place"
            ) from error
        raise


def _require_space(target: Path, size_bound: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if free < size_bound:
        raise TargetError(
            f"{target}: needs about {size_bound / 1e6:.0f} MB but the disk has {free / 1e6:.0f} MB free; "
            "make room or choose another place with -o"
        )


def _sync_folder(folder: Path) -> None:
    """Make the rename itself last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _from_bytes(name: str, kind: MemberKind, data: bytes) -> tuple[Member, bytes]:
    return Member(name, kind, len(data), hashlib.sha256(data).hexdigest()), data


def _hashed(name: str, kind: MemberKind, path: Path) -> Member:
    digest = hashlib.sha256()
    for chunk in read_chunks(path):
        digest.update(chunk)
    return Member(name, kind, _file_size(path), digest.hexdigest())


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise SourceError(f"{path}: can't be read ({error.strerror or error})") from error


def _model_facts(model: SourcedModel, facts: ModelFacts) -> dict[str, JSON]:
    values: dict[str, JSON] = {"file_name": model.file_name, "size": model.size, "sha256": model.sha256}
    values |= asdict(facts)
    values["chat_template"] = values.pop("has_chat_template")
    for said_elsewhere in ("description", "license"):
        del values[said_elsewhere]
    return values


def _counted(chunks: Iterable[bytes], counter: ByteCounter) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        counter.advance(len(chunk))
