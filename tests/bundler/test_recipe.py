from pathlib import Path

import pytest

from bundler.errors import RecipeError
from bundler.recipe import DEFAULT_MODEL, Recipe, bundle_name, from_options


@pytest.mark.parametrize(
    ("file_name", "name"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct"),
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "qwen2.5-0.5b-instruct"),
        ("Llama-3.2-1B-Instruct-UD-IQ2_XXS.gguf", "Llama-3.2-1B-Instruct"),
        ("tiny-bf16.GGUF", "tiny"),
        ("gpt-oss-20b-mxfp4.gguf", "gpt-oss-20b"),
        ("bitnet_TQ1_0.gguf", "bitnet"),
        ("Phi-3.gguf", "Phi-3"),
        ("model", "model"),
        ("-Q4_0.gguf", "-Q4_0"),
    ],
)
def test_a_bundle_is_named_like_its_model_without_quantization(file_name: str, name: str) -> None:
    assert bundle_name(file_name) == name


def test_the_target_is_out_else_the_name_in_dist() -> None:
    assert Recipe().target("a.Q8_0.gguf") == Path("dist/a")
    assert Recipe(name="b").target("a.Q8_0.gguf") == Path("dist/b")
    assert Recipe(name="b", out=Path("c")).target("a.Q8_0.gguf") == Path("c")


def test_without_a_model_the_default_one_is_packed() -> None:
    assert from_options(None, out=None, name=None, pack=None, args=()).model == DEFAULT_MODEL


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\nb", "\\"])
def test_a_name_that_cannot_name_a_file_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="--name"):
        from_options(None, out=None, name=name, pack=None, args=())


@pytest.mark.parametrize("arg", ["", " -c", "#", "a\nb"])
def test_an_argument_that_args_cannot_keep_is_refused(arg: str) -> None:
    with pytest.raises(RecipeError, match="--arg"):
        from_options(None, out=None, name=None, pack=None, args=("-c", arg))
