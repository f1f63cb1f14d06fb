"""Which files a launch uses."""

from pathlib import Path

import pytest

from runtime.chat.template import CHATML
from runtime.container import Container, Manifest, Member, MemberKind
from runtime.engine.loading import AdapterPart, Parts
from runtime.errors import ModelError, UsageError
from runtime.extent import Extent
from runtime.program import parts
from runtime.program.options import Settings


def bundle(path: Path, *, draft: bytes = b"") -> Container:
    members = [Member("inside.gguf", MemberKind.MODEL, 10, "0" * 64)]
    members += [Member("draft-x.gguf", MemberKind.DRAFT, len(draft), "0" * 64)] if draft else []
    extents = {member.name: Extent(path, 65536 * (1 + i), member.size) for i, member in enumerate(members)}
    return Container(path, Manifest("Inside", tuple(members)), extents)


def test_the_model_inside_is_used(tmp_path: Path) -> None:
    executable = tmp_path / "bundle"
    assert parts.find_model(Settings(), bundle(executable), executable) == ("Inside", Extent(executable, 65536, 10))


def test_a_model_that_is_named_wins_over_the_one_inside(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"12345")
    found = parts.find_model(Settings(model=other), bundle(tmp_path / "bundle"), tmp_path / "bundle")
    assert found == ("other", Extent(other, 0, 5))


def test_without_one_inside_the_model_beside_the_executable_is_used(tmp_path: Path) -> None:
    sidecar = tmp_path / "bundle.gguf"
    sidecar.write_bytes(b"123")
    assert parts.find_model(Settings(), None, tmp_path / "bundle") == ("bundle", Extent(sidecar, 0, 3))


def test_without_any_model_it_says_how_to_name_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="-m"):
        parts.find_model(Settings(), None, tmp_path / "bundle")
    with pytest.raises(ModelError, match=r"missing\.gguf: No such file"):
        parts.find_model(Settings(model=tmp_path / "missing.gguf"), None, tmp_path / "bundle")


def test_a_draft_model_is_named_or_lies_inside_beside_the_model_that_is_used(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"12345")
    inside = bundle(tmp_path / "bundle", draft=b"123")
    assert parts.find_draft(Settings(draft_model=other), inside) == Extent(other, 0, 5)
    found = parts.find_draft(Settings(), inside)
    assert found is not None
    assert found.size == 3
    assert parts.find_draft(Settings(model=other), inside) is None
    assert parts.find_draft(Settings(), None) is None


def test_the_projector_is_the_named_one_else_the_one_inside_with_its_model(tmp_path: Path) -> None:
    other = tmp_path / "other.gguf"
    other.write_bytes(b"12345")
    members = (
        Member("inside.gguf", MemberKind.MODEL, 10, "0" * 64),
        Member("mmproj-inside.gguf", MemberKind.PROJECTOR, 5, "1" * 64),
    )
    extents = {name: Extent(tmp_path / "bundle", 65536, 5) for name in ("inside.gguf", "mmproj-inside.gguf")}
    inside = Container(tmp_path / "bundle", Manifest("Inside", members), extents)
    assert parts.find_projector(Settings(projector=other), inside) == Extent(other, 0, 5)
    assert parts.find_projector(Settings(), inside) == extents["mmproj-inside.gguf"]
    assert parts.find_projector(Settings(no_projector=True), inside) is None
    assert parts.find_projector(Settings(model=other), inside) is None
    assert parts.find_projector(Settings(), None) is None
    with pytest.raises(ModelError, match="missing"):
        parts.find_projector(Settings(projector=tmp_path / "missing"), None)


def with_adapter(path: Path) -> Container:
    members = (
        Member("inside.gguf", MemberKind.MODEL, 10, "0" * 64),
        Member("lora-pirate.gguf", MemberKind.LORA, 5, "1" * 64),
    )
    extents = {"inside.gguf": Extent(path, 65536, 10), "lora-pirate.gguf": Extent(path, 131072, 5)}
    return Container(path, Manifest("Inside", members), extents)


def test_adapters_are_those_inside_and_then_those_that_are_named(tmp_path: Path) -> None:
    executable, named = tmp_path / "bundle", tmp_path / "other.gguf"
    named.write_bytes(b"123")
    inside = AdapterPart("lora-pirate.gguf", Extent(executable, 131072, 5), 1.0)
    chosen = Settings(lora=(str(named),), lora_scaled=(f"{named}:-0.5",))
    other = [AdapterPart("other.gguf", Extent(named, 0, 3), scale) for scale in (1.0, -0.5)]
    assert parts.find_adapters(chosen, with_adapter(executable)) == [inside, *other]
    # An adapter is for the model that it was packed with.
    assert parts.find_adapters(Settings(model=named), with_adapter(executable)) == []
    with pytest.raises(ModelError, match="missing"):
        parts.find_adapters(Settings(lora=("missing.gguf",)), None)


@pytest.mark.parametrize("scale", ["", "x", "nan", "inf"])
def test_a_scale_that_is_no_number_is_a_usage_error(scale: str) -> None:
    with pytest.raises(UsageError, match="FILE:SCALE"):
        parts.find_adapters(Settings(lora_scaled=(f"a.gguf:{scale}",)), None)


def test_keys_come_from_the_flag_and_the_file(tmp_path: Path) -> None:
    keys = tmp_path / "keys.txt"
    keys.write_text("# ours\none\n\n  two \n")
    chosen = parts.with_files_read(Settings(api_keys=("zero",), api_key_file=keys))
    assert chosen.api_keys == ("zero", "one", "two")


@pytest.mark.parametrize(
    ("content", "said"), [(None, "can't read"), (b"# none\n", "no key"), (b"\xff\xfe", "no text in UTF-8")]
)
def test_a_key_file_without_a_key_lets_nobody_start(tmp_path: Path, content: bytes | None, said: str) -> None:
    keys = tmp_path / "keys.txt"
    if content is not None:
        keys.write_bytes(content)
    with pytest.raises(UsageError, match=f"--api-key-file: .*{said}"):
        parts.with_files_read(Settings(api_key_file=keys))


def test_a_chat_template_is_jinja_or_a_file_of_it(tmp_path: Path) -> None:
    file = tmp_path / "x.jinja"
    file.write_text("{{ messages }}")
    assert parts.with_files_read(Settings(chat_template_file=file)).chat_template == "{{ messages }}"
    assert parts.with_files_read(Settings(chat_template="chatml")).chat_template == CHATML
    assert parts.with_files_read(Settings(chat_template="{{ x }}")).chat_template == "{{ x }}"


def test_all_that_is_found_goes_to_the_engine_and_the_page_together(tmp_path: Path) -> None:
    executable, other = tmp_path / "bundle", tmp_path / "other.gguf"
    other.write_bytes(b"12345")
    inside = with_adapter(executable)
    adapter = AdapterPart("lora-pirate.gguf", Extent(executable, 131072, 5), 1.0)
    model = Parts(weights=Extent(executable, 65536, 10), adapters=(adapter,))
    assert parts.find(Settings(), inside, executable) == parts.Found(
        name="Inside", parts=model, manifest=inside.manifest, sha256="0" * 64
    )
    named = Settings(model=other, draft_model=other, projector=other)
    place = Extent(other, 0, 5)
    assert parts.find(named, inside, executable) == parts.Found(
        name="other", parts=Parts(weights=place, draft=place, projector=place), from_outside=(other, other, other)
    )


def test_adapters_may_be_left_to_requests(tmp_path: Path) -> None:
    chosen = Settings(lora_init_without_apply=True)
    assert [each.scale for each in parts.find_adapters(chosen, with_adapter(tmp_path / "bundle"))] == [0.0]
