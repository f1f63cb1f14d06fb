"""A bundle in words and as JSON; pure, both from an opened container."""

import json
from collections.abc import Sequence

from bundler.progress import format_bytes
from runtime.container import JSON, MANIFEST_NAME, Container, Face


def describe_json(container: Container) -> dict[str, JSON]:
    """Return the manifest with each member's offset, the manifest's own extent and the file's size."""
    value: dict[str, JSON] = json.loads(container.manifest.to_json())
    members: list[JSON] = []
    for member in container.manifest.members:
        members.append(
            {
                "name": member.name,
                "kind": member.kind.value,
                "offset": container.extent(member.name).offset,
                "size": member.size,
                "sha256": member.sha256,
            }
        )
    own = container.extent(MANIFEST_NAME)
    return value | {
        "members": members,
        "manifest": {"offset": own.offset, "size": own.size},
        "file": {"path": str(container.path), "size": container.path.stat().st_size},
    }


def describe(container: Container) -> str:
    """Return a page for a person: the bundle, its model, its members."""
    manifest = container.manifest
    size = container.path.stat().st_size
    bundle = [
        ("name", manifest.name),
        ("description", manifest.description),
        ("license", manifest.license),
        ("source", manifest.source),
        ("platform", manifest.platform),
        ("made by", f"holdall {manifest.tool_version}" if manifest.tool_version else ""),
        ("format", str(manifest.format_version)),
        ("size", f"{format_bytes(size)} ({size} bytes)"),
        ("arguments", " ".join(container.args())),
        *((f"default {name}", json.dumps(value)) for name, value in manifest.defaults.items()),
        *_face(manifest.face),
    ]
    known = [name for name in _LABELS if name in manifest.model]
    others = [name for name in manifest.model if name not in _LABELS]
    model = [(_LABELS.get(name, name), _plain(manifest.model[name])) for name in known + others]
    return "\n\n".join([_pairs(bundle), "model\n" + _pairs(model, indent="  "), "members\n" + _members(container)])


def _face(face: Face) -> list[tuple[str, str]]:
    icon = face.icon.removeprefix("data:").partition(";")[0]
    texts = [("chats under", face.id), ("page's icon", icon), ("page's welcome", face.welcome)]
    texts += [("page's suggestion", suggestion) for suggestion in face.suggestions]
    texts += [("page's system prompt", face.system)]
    return [(label, " ".join(text.split())) for label, text in texts]


_LABELS = {  # in the order they are told
    "name": "name",
    "architecture": "architecture",
    "quantization": "quantization",
    "n_params": "parameters",
    "n_ctx_train": "trained context",
    "n_embd": "embedding size",
    "n_vocab": "vocabulary",
    "chat_template": "chat template",
    "media": "reads besides text",
    "file_name": "file",
    "size": "size",
    "sha256": "sha256",
}


def _plain(value: JSON) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return value if isinstance(value, str) else json.dumps(value)


def _pairs(pairs: Sequence[tuple[str, str]], indent: str = "") -> str:
    said = [(label, value) for label, value in pairs if value]
    width = max((len(label) for label, _ in said), default=0)
    return "\n".join(f"{indent}{label:<{width}}  {value}" for label, value in said)


def _members(container: Container) -> str:
    rows = [("offset", "size", "kind", "name")]
    own = container.extent(MANIFEST_NAME)
    rows.append((str(own.offset), str(own.size), "manifest", MANIFEST_NAME))
    for member in container.manifest.members:
        rows.append((str(container.extent(member.name).offset), str(member.size), member.kind.value, member.name))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"  {offset:>{widths[0]}}  {size:>{widths[1]}}  {kind:<{widths[2]}}  {name}"
        for offset, size, kind, name in rows
    )
