from pathlib import Path

import pytest

from bundler.errors import RecipeError
from bundler.pack.pack import load_pack


def test_a_pack_is_read_with_its_facts_and_notices(pack: Path) -> None:
    opened = load_pack(pack)
    assert opened.stub.read_bytes().startswith(b"\x7fELF")
    assert opened.fact("platform") == "elsewhere-x86_64"
    assert opened.fact("unknown") == ""
    assert opened.licenses == (("python.txt", b"PSF\n"),)


@pytest.mark.parametrize("missing", ["stub", "runtime.pkg", "pack.json"])
def test_a_folder_that_lacks_a_part_is_no_pack(pack: Path, missing: str) -> None:
    (pack / missing).unlink()
    with pytest.raises(RecipeError, match=f"not a runtime pack .*{missing}"):
        load_pack(pack)


@pytest.mark.parametrize("text", ["{", "[]"])
def test_broken_facts_are_named(pack: Path, text: str) -> None:
    (pack / "pack.json").write_text(text)
    with pytest.raises(RecipeError, match=r"pack\.json"):
        load_pack(pack)
