"""How the layers of settings are laid over each other.

defaults < manifest < `.args` < environment < command line; the result is one frozen value that remembers where each
setting came from. This module reads neither `os.environ` nor `sys.argv`: the command line's edge hands them in.
"""

import dataclasses
import difflib
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import click
from click.core import ParameterSource

from runtime.errors import UsageError
from runtime.program.options import METAVARS, Settings, Words

Layer = Mapping[str, Any]

# llama-server's flags that ask for what is the case here anyway: accepted, so that its command lines work.
_ALREADY_SO = {
    "--offline": "nothing is ever downloaded",
    "--cont-batching": "requests are always batched as they come",
    "-cb": "the same",
    "--embedding": "vectors are always served",
    "--embeddings": "the same",
    "--backend-sampling": "scores never leave the memory they are computed in",
    "-bs": "the same",
    "--rerank": "a model that can rank does",
    "--reranking": "the same",
    "--jinja": "templates are always rendered by Jinja",
    "--no-jinja": "no template is built in that could take its place",
}


def _declared() -> Iterable["dataclasses.Field[Any]"]:
    return (each for each in dataclasses.fields(Settings) if each.metadata["flags"])


def _command(program: str) -> click.Command:
    options = []
    for each in _declared():
        default = each.default if each.default not in (None, False, True, ()) else None
        options.append(
            click.Option(
                [each.name, *each.metadata["flags"]],
                type=None if each.metadata["kind"] is click.BOOL else each.metadata["kind"],
                is_flag=each.metadata["kind"] is click.BOOL,
                multiple=isinstance(each.metadata["kind"], Words),  # as in llama.cpp, a flag given twice adds up
                default=default,
                show_default=default is not None,
                metavar=METAVARS.get(type(each.metadata["kind"])),
                help=each.metadata["text"],
            )
        )
    options += [
        click.Option([flag], is_flag=True, hidden=True, expose_value=False, help=why)
        for flag, why in _ALREADY_SO.items()
    ]
    options.append(
        click.Option(["show_version", "--version"], is_flag=True, help="Say which version this is, and end.")
    )
    options.append(click.Option(["show_help", "-h", "--help"], is_flag=True, help="Show this text, and end."))
    text = "Serve a chat page and an HTTP API for the model inside this file."
    spelled = {"token_normalize_func": lambda flag: flag.replace("_", "-")}  # as in llama.cpp
    return click.Command(program, context_settings=spelled, params=list(options), add_help_option=False, help=text)


def help_text(program: str) -> str:
    command = _command(program)
    return command.get_help(click.Context(command, info_name=program, max_content_width=100))


def from_words(words: Sequence[str], *, origin: str) -> dict[str, Any]:
    """Return the settings that a command line names, and `show_help`/`show_version` when asked for.

    Raises UsageError, which names the nearest known flag for an unknown one.
    """
    command = _command("holdall")
    try:
        context = command.make_context("holdall", list(words))
    except click.NoSuchOption as error:
        raise UsageError(f"{origin}: {_unknown_flag(error.option_name, words, command)}; see --help") from error
    except click.UsageError as error:
        raise UsageError(f"{origin}: {error.format_message().rstrip('.')}; see --help") from error
    given = ParameterSource.COMMANDLINE
    lists = {each.name for each in _declared() if isinstance(each.metadata["kind"], Words)}
    return {
        name: tuple(chain.from_iterable(value)) if name in lists else value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is given
    }


def _unknown_flag(name: str, words: Sequence[str], command: click.Command) -> str:
    # Of "-prot" click reports "-p": look for the whole word that was typed.
    typed = next((word.split("=")[0] for word in words if word.startswith(name)), name)
    flags = [flag for parameter in command.params for flag in parameter.opts]
    nearest = difflib.get_close_matches(typed, flags, n=1, cutoff=0.5)
    return f"there is no flag {typed}" + (f", did you mean {nearest[0]}?" if nearest else "")


def from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that llama.cpp's environment variables name; UsageError for a value that is none."""
    variables = {each.metadata["env"]: each for each in _declared() if each.metadata["env"]}
    found = {name: environment[name] for name in variables if environment.get(name)}
    return {variables[name].name: _convert(variables[name], text, f"${name}") for name, text in found.items()}


def from_mapping(values: Layer, *, origin: str) -> dict[str, Any]:
    """Return the settings of a manifest's defaults; UsageError for a name or value that can't be used."""
    declared = {each.name: each for each in _declared()}
    unknown = sorted(set(values) - set(declared))
    if unknown:
        raise UsageError(f"{origin}: there is no setting called {unknown[0]!r}; rebuild the file without it")
    return {name: _convert(declared[name], value, origin) for name, value in values.items()}


def _convert(declared: "dataclasses.Field[Any]", value: Any, origin: str) -> Any:
    try:
        return declared.metadata["kind"].convert(value, None, None)
    except click.BadParameter as error:
        raise UsageError(f"{origin}: {error.message}") from error


def merge(layers: Sequence[tuple[str, Layer]]) -> Settings:
    """Lay the layers over each other, the last one on top; each is its origin's name and its settings."""
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for origin, layer in layers:
        for name, value in layer.items():
            values[name] = value
            origins[name] = origin
    return Settings(**values, origins=origins)
