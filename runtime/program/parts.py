"""Which files a launch uses: the model, its companions, and the keys and the chat template that lie in files.

What the command line names wins over what lies inside this file, and companions inside are for the model inside.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from runtime.chat.template import CHATML
from runtime.container import Container, Manifest, MemberKind
from runtime.engine.loading import AdapterPart, Parts
from runtime.errors import ModelError, UsageError
from runtime.extent import Extent
from runtime.program.options import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The files of a launch. `manifest` is that of the model's bundle, None for a model that was named.

    `sha256` is the hash of the model's GGUF where the manifest promises one, else empty. `from_outside` are the files
    that no bundle's builder has tried.
    """

    name: str
    parts: Parts
    manifest: Manifest | None = None
    sha256: str = ""
    from_outside: tuple[Path, ...] = ()


def find(chosen: Settings, container: Container | None, executable: Path) -> Found:
    """Return the files that a launch uses. Raises ModelError for one that isn't there, UsageError for a wrong scale."""
    name, weights = find_model(chosen, container, executable)
    parts = Parts(
        weights=weights,
        draft=find_draft(chosen, container),
        projector=find_projector(chosen, container),
        adapters=tuple(find_adapters(chosen, container)),
    )
    inside = container.path if container else None
    return Found(
        name=name,
        parts=parts,
        manifest=container.manifest if container and chosen.model is None else None,
        sha256=container.sha256(weights) if container else "",
        from_outside=tuple(extent.path for extent in parts.extents() if extent.path != inside),
    )


def find_model(chosen: Settings, container: Container | None, executable: Path) -> tuple[str, Extent]:
    """Return the model's name and where its GGUF lies: `-m`, else inside this file, else `<name>.gguf` beside it.

    Raises ModelError when there is none.
    """
    if chosen.model is not None:
        return chosen.model.stem, _whole_file(chosen.model)
    embedded = container.model() if container else None
    if container and embedded:
        return container.manifest.name, embedded
    sidecar = executable.with_suffix(".gguf")
    if sidecar.exists():
        return sidecar.stem, _whole_file(sidecar)
    raise ModelError("there is no model in this file and none beside it; name one with -m MODEL.gguf")


def find_draft(chosen: Settings, container: Container | None) -> Extent | None:
    """Return where the draft model's GGUF lies: `-md`, else inside this file when its model is used; None without one.

    Raises ModelError when the file that was named isn't there.
    """
    if chosen.draft_model is not None:
        return _whole_file(chosen.draft_model)
    return _inside(MemberKind.DRAFT, chosen, container)


def find_projector(chosen: Settings, container: Container | None) -> Extent | None:
    """Return where the projector's GGUF lies, by the same rules; None without one. Raises ModelError."""
    if chosen.projector is not None:
        return _whole_file(chosen.projector)
    return None if chosen.no_projector else _inside(MemberKind.PROJECTOR, chosen, container)


def _inside(kind: MemberKind, chosen: Settings, container: Container | None) -> Extent | None:
    if container is None or chosen.model is not None:
        return None
    return next(iter(container.extents_of(kind)), None)


def find_adapters(chosen: Settings, container: Container | None) -> list[AdapterPart]:
    """Return the LoRA adapters: those inside this file when its model is used, then `--lora`.

    The scale is 0 where requests are to apply it. Raises ModelError when a file that was named isn't there, UsageError
    for a scale that is none.
    """
    found: list[AdapterPart] = []
    if container is not None and chosen.model is None:
        members = (member for member in container.manifest.members if member.kind is MemberKind.LORA)
        found += [AdapterPart(member.name, container.extent(member.name), 1.0) for member in members]
    named = [(Path(name), 1.0) for name in chosen.lora] + _scaled(chosen.lora_scaled)
    found += [AdapterPart(path.name, _whole_file(path), scale) for path, scale in named]
    return [replace(part, scale=0.0) for part in found] if chosen.lora_init_without_apply else found


def _scaled(words: Sequence[str]) -> list[tuple[Path, float]]:
    named = []
    for word in words:
        name, _colon, text = word.rpartition(":")
        try:
            scale = float(text)
        except ValueError:
            scale = math.nan
        if not math.isfinite(scale):
            raise UsageError(f"--lora-scaled: {word!r} is not FILE:SCALE")
        named.append((Path(name), scale))
    return named


def _whole_file(path: Path) -> Extent:
    try:
        return Extent(path, 0, path.stat().st_size)
    except OSError as error:
        raise ModelError(f"can't open {path}: {error.strerror}") from error


def with_files_read(chosen: Settings) -> Settings:
    """Return the settings with the keys and the chat template that their files hold.

    Raises UsageError for a file that can't be used.
    """
    keys, template = chosen.api_keys, chosen.chat_template
    if chosen.api_key_file is not None:
        lines = _read_text(chosen.api_key_file, "--api-key-file").splitlines()
        in_file = tuple(line.strip() for line in lines if line.strip() and not line.startswith("#"))
        if not in_file:
            raise UsageError(f"--api-key-file: there is no key in {chosen.api_key_file}; write one a line")
        keys += in_file
    if chosen.chat_template_file is not None:
        template = _read_text(chosen.chat_template_file, "--chat-template-file")
    elif template == "chatml":
        template = CHATML
    return replace(chosen, api_keys=keys, chat_template=template)


def _read_text(path: Path, flag: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{flag}: {path} is no text in UTF-8") from error
    except OSError as error:
        raise UsageError(f"{flag}: can't read {path}: {error.strerror}") from error
