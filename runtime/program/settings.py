"""How the layers of settings are laid over each other: defaults < manifest < `.args` < environment < command line.

click does it: the environment is its `envvar`, `.args` and the manifest its `default_map`. The result is one frozen
value. This module reads neither `os.environ` nor `sys.argv`, which the command line's edge hands in; the bundler reads
with it what a launch will read.
"""

import difflib
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import click
from click.core import ParameterSource

from runtime.errors import UsageError
from runtime.program.options import OPTIONS, Settings

COMMAND_LINE = "command line"
_NAME = "holdall"
_NOTHING: Mapping[str, Any] = {}

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
_ACTIONS = {"show_version": "--version", "show_help": "--help"}


@cache
def _command() -> click.Command:
    accepted = [
        click.Option([flag], is_flag=True, hidden=True, expose_value=False, help=why)
        for flag, why in _ALREADY_SO.items()
    ]
    version = click.Option(["show_version", "--version"], is_flag=True, help="Print the version, and end.")
    helping = click.Option(["show_help", "-h", "--help"], is_flag=True, help="Print this text, and end.")
    text = "Serve a chat page and an HTTP API for the model inside this file."
    spelled = {"token_normalize_func": lambda flag: flag.replace("_", "-")}  # as in llama.cpp
    options: list[click.Parameter] = [*OPTIONS.values(), *accepted, version, helping]
    return click.Command(_NAME, context_settings=spelled, params=options, add_help_option=False, help=text)


def help_text(program: str) -> str:
    return _command().get_help(click.Context(_command(), info_name=program, max_content_width=100))


def read(
    words: Sequence[str],
    environment: Mapping[str, str] = _NOTHING,
    *,
    args: Sequence[str] = (),
    manifest: Mapping[str, Any] = _NOTHING,
) -> Settings:
    """Return the settings of a launch: the command line's `words` win over all, the `manifest` yields to all.

    Raises UsageError, which names the layer at fault.
    """
    defaults = {**from_mapping(manifest, origin="manifest"), **from_args(args, origin=".args")}
    context = _parse(words, environment, defaults=defaults)
    return Settings(**{name: context.params[name] for name in OPTIONS})


def from_words(words: Sequence[str], *, origin: str) -> dict[str, Any]:
    """Return the settings that a command line names, and `show_help`/`show_version` when asked for.

    Raises UsageError, which names the nearest known flag for an unknown one.
    """
    context = _parse(words, origin=origin)
    given = ParameterSource.COMMANDLINE
    return {name: value for name, value in context.params.items() if context.get_parameter_source(name) is given}


def from_args(words: Sequence[str], *, origin: str) -> dict[str, Any]:
    """Return the settings that a bundle's default arguments name; UsageError for any that can't be used as defaults."""
    found = from_words(words, origin=origin)
    for name, flag in _ACTIONS.items():
        if name in found:
            raise UsageError(f"{origin}: {flag} ends the program, so it can't be a default; leave it out")
    return found


def from_mapping(values: Mapping[str, Any], *, origin: str) -> dict[str, Any]:
    """Return the settings of a manifest's defaults; UsageError for a name or value that can't be used."""
    unknown = sorted(set(values) - set(OPTIONS))
    if unknown:
        raise UsageError(f"{origin}: there is no setting called {unknown[0]!r}; rebuild the file without it")
    return {name: converted(name, value, origin=f"{origin}: {name}") for name, value in values.items()}


def converted(name: str, value: Any, *, origin: str) -> Any:
    """Return a value as Settings has it under `name`. Raises UsageError for one that is of no use there."""
    try:
        return OPTIONS[name].type_cast_value(click.Context(_command()), value)
    except click.BadParameter as error:
        raise UsageError(f"{origin}: {error.message.rstrip('.')}") from error


def is_verbose(words: Sequence[str], environment: Mapping[str, str], args: Sequence[str] = ()) -> bool:
    """Whether a launch asks to hear more, as far as its layers can be read: it may have failed over any of them."""
    verbose = False
    for layer, variables in ((args, _NOTHING), (words, environment)):
        context = _command().make_context(
            _NAME,
            list(layer),
            obj=variables,
            default_map={"verbose": verbose},
            resilient_parsing=True,
            ignore_unknown_options=True,
        )
        verbose = bool(context.params["verbose"])
    return verbose


def _parse(
    words: Sequence[str],
    environment: Mapping[str, str] = _NOTHING,
    *,
    origin: str = COMMAND_LINE,
    defaults: Mapping[str, Any] = _NOTHING,
) -> click.Context:
    """Return click's context of a command line called `origin`. Raises UsageError."""
    see_help = "; see --help" if origin == COMMAND_LINE else ""
    try:
        return _command().make_context(_NAME, list(words), obj=environment, default_map=dict(defaults))
    except click.NoSuchOption as error:
        raise UsageError(f"{origin}: {_unknown_flag(error.option_name, words)}{see_help}") from error
    except click.UsageError as error:
        variable = _variable_at_fault(error)
        if variable:
            raise UsageError(f"${variable}: {error.message.rstrip('.')}") from error
        raise UsageError(f"{origin}: {error.format_message().rstrip('.')}{see_help}") from error


def _variable_at_fault(error: click.UsageError) -> str:
    """Return the environment variable whose value can't be used; empty where it is a flag's or something else."""
    if not isinstance(error, click.BadParameter) or error.ctx is None or error.param is None:
        return ""
    source = error.ctx.get_parameter_source(error.param.name or "")
    return str(error.param.envvar) if source is ParameterSource.ENVIRONMENT else ""


def _unknown_flag(name: str, words: Sequence[str]) -> str:
    # Of "-prot" click reports "-p": look for the whole word that was typed.
    typed = next((word.split("=")[0] for word in words if word.startswith(name)), name)
    flags = [flag for parameter in _command().params for flag in parameter.opts]
    nearest = difflib.get_close_matches(typed, flags, n=1, cutoff=0.5)
    return f"there is no flag {typed}" + (f", did you mean {nearest[0]}?" if nearest else "")
