"""Every setting, declared once: its name, its flags, what it takes, what it is for.

Flags and environment variables bear llama.cpp's and llamafile's names. This module reads neither.
"""
# ruff: noqa: RUF009 -- what `option` returns is a dataclass's field, not a default shared by all

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import click

from runtime.engine.values.answer_settings import (
    MAX_TOKENS,
    MIN_P,
    REPEAT_PENALTY,
    SEED,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    AnswerSetting,
)

T = TypeVar("T")
N = TypeVar("N", int, float)


class _GpuLayers(click.ParamType[int]):
    """A number, or llama.cpp's words `auto` and `all`."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value in ("auto", "all"):
            return -1
        return int(click.INT.convert(value, param, ctx))


class _Words(click.ParamType[tuple[str, ...]]):
    """A list with commas between."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if not isinstance(value, str):
            self.fail(f"{value!r} is not a list of texts", param, ctx)
        return tuple(word.strip() for word in value.split(",") if word.strip())

    def split_envvar_value(self, rv: str) -> list[str]:
        return [rv]  # not at spaces, as click would


class _JsonObject(click.ParamType[Mapping[str, Any]]):
    """The text of a JSON object."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Mapping[str, Any]:
        try:
            parsed = json.loads(value) if isinstance(value, str) else value
        except (ValueError, RecursionError):
            parsed = None
        if not isinstance(parsed, Mapping):
            self.fail(f"{value!r} is not a JSON object", param, ctx)
        return parsed


class _Whole(click.IntRange):
    """A whole number within a range; a fraction is refused instead of cut off."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, float):
            self.fail(f"{value!r} is not a whole number", param, ctx)
        return int(super().convert(value, param, ctx))


class _Finite(click.FloatRange):
    """A number within a range, which neither infinity nor NaN is in."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a number to compute with", param, ctx)
        return number


class Option(click.Option):
    """A setting's option. It reads the environment that is the context's `obj`, and no other; its lists add up."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        environment: Mapping[str, str] = ctx.obj or {}
        return environment.get(str(self.envvar)) or None

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        if not self.multiple or value is None:
            return super().type_cast_value(ctx, value)
        parts = value if isinstance(value, (list, tuple)) else [value]
        return tuple(chain.from_iterable(self.type.convert(part, self, ctx) for part in parts))


_METAVARS: dict[Any, str] = {
    click.IntRange: "N",
    _Whole: "N",
    _Finite: "X",
    _GpuLayers: "N",
    _Words: "A,B",
    _JsonObject: "JSON",
}
_FILE = click.Path(path_type=Path)


def option(
    default: T, names: str, text: str, kind: click.ParamType[Any] | None = None, *, answer: str | None = None
) -> T:
    """Declare a field of Settings. `names` are its flags, then with a $ its environment variable, with spaces between.

    Without a `kind`, a field whose default is a truth value is a switch, one whose default is a tuple a list of texts,
    which adds up when a flag is given twice as in llama.cpp, and any other a text. `answer` is the name that requests
    have for the same setting.
    """
    flags, _dollar, variable = names.partition("$")
    if isinstance(default, tuple):
        kind = _Words()
    attributes = {
        "type": kind,
        "is_flag": isinstance(default, bool),
        "multiple": isinstance(default, tuple),
        "default": default,
        "show_default": not isinstance(default, bool) and default not in (None, ()),
        "metavar": _METAVARS.get(type(kind)),
        "envvar": variable or None,
        "help": text,
    }
    declared: T = field(default=default, metadata={"flags": flags.split(), "attributes": attributes, "answer": answer})
    return declared


def answer_option(setting: AnswerSetting[N], names: str, text: str) -> N:
    """Declare a field of Settings that holds where a request doesn't name the answer's setting."""
    return option(setting.default, names, text, _range_of(setting), answer=setting.name)


def _range_of(setting: AnswerSetting[Any]) -> click.ParamType[Any]:
    kind = _Whole if isinstance(setting.default, int) else _Finite
    return kind(setting.minimum, setting.maximum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One launch. Context and batch sizes in tokens; None means chosen by the machine and the model."""

    model: Path | None = option(
        None, "-m --model $LLAMA_ARG_MODEL", "GGUF file to use instead of the model inside this file.", _FILE
    )
    n_ctx: int | None = option(
        None,
        "-c --ctx-size $LLAMA_ARG_CTX_SIZE",
        "Tokens of context, shared by all requests that run at once; 0 is the model's maximum. [default: 8192, "
        "or less where the model or the memory ends sooner]",
        click.IntRange(min=0),
    )
    n_threads: int | None = option(
        None,
        "-t --threads $LLAMA_ARG_THREADS",
        "Threads to compute with. [default: as many as the machine can give at the moment]",
        click.INT,
    )
    n_batch: int = option(
        512, "-b --batch-size $LLAMA_ARG_BATCH", "Tokens computed in one step.", click.IntRange(min=1)
    )
    n_parallel: int = option(
        8,
        "-np --parallel $LLAMA_ARG_N_PARALLEL",
        "Requests computed at once; they share the context.",
        click.IntRange(1, 256),
    )
    kv_unified: bool = option(
        True,
        "-kvu/-no-kvu --kv-unified/--no-kv-unified $LLAMA_ARG_KV_UNIFIED",
        "Let a request use all of the context, at the cost of others; else each has an equal part. [default: on]",
    )
    max_queue: int = option(
        256,
        "--max-queue",
        "Requests that may wait for their turn; more are refused with 503 and Retry-After.",
        click.IntRange(min=1),
    )
    cache_ram: int = option(
        1024,
        "-cram --cache-ram $LLAMA_ARG_CACHE_RAM",
        "MiB for the caches of conversations that had to leave the context, so that they continue without being "
        "computed again; 0 keeps none, -1 all.",
        click.IntRange(min=-1),
    )
    context_shift: bool = option(
        False,
        "--context-shift $LLAMA_ARG_CONTEXT_SHIFT",
        "When the context is full, drop older tokens and go on instead of ending the answer.",
    )
    n_keep: int = option(
        0, "--keep", "Tokens of the prompt that a context shift keeps; -1 is all.", click.IntRange(min=-1)
    )
    spec_type: str = option(
        "none",
        "--spec-type $LLAMA_ARG_SPEC_TYPE",
        "Guess tokens ahead from the text itself: faster where answers repeat or quote, the text is the same.",
        click.Choice(["none", "ngram-simple"]),
    )
    projector: Path | None = option(
        None, "-mm --mmproj $LLAMA_ARG_MMPROJ", "Projector to read pictures or sounds with.", _FILE
    )
    no_projector: bool = option(False, "--no-mmproj", "Leave out the projector inside this file.")
    draft_model: Path | None = option(
        None,
        "-md --model-draft --spec-draft-model $LLAMA_ARG_SPEC_DRAFT_MODEL",
        "GGUF file of a small model of the same family that guesses tokens ahead; the text is the same.",
        _FILE,
    )
    draft_max: int = option(
        16, "--spec-draft-n-max $LLAMA_ARG_SPEC_DRAFT_N_MAX", "Tokens guessed ahead at most.", click.IntRange(0, 64)
    )
    pooling: str | None = option(
        None,
        "--pooling $LLAMA_ARG_POOLING",
        "How embeddings are made of a text's tokens. [default: the model's own way, else the mean]",
        click.Choice(["none", "mean", "cls", "last", "rank"]),
    )
    embd_normalize: int = option(
        2,
        "--embd-normalize",
        "How vectors are scaled where a request doesn't say: -1 not at all, 0 by the largest, 1 taxicab, 2 to "
        "length 1, others p-norm.",
        click.IntRange(-1, 1000),
    )
    n_gpu_layers: int = option(
        -1,
        "-ngl --gpu-layers --n-gpu-layers $LLAMA_ARG_N_GPU_LAYERS",
        "Layers to compute on a GPU where there is one; -1 is all.",
        _GpuLayers(),
    )
    temperature: float = answer_option(
        TEMPERATURE,
        "--temp --temperature $LLAMA_ARG_TEMPERATURE",
        "How adventurous answers are; 0 always takes the likeliest token.",
    )
    top_k: int = answer_option(TOP_K, "--top-k $LLAMA_ARG_TOP_K", "Choose among the k likeliest tokens; 0 is off.")
    top_p: float = answer_option(
        TOP_P,
        "--top-p $LLAMA_ARG_TOP_P",
        "Choose among the likeliest tokens that together have this probability; 1 is off.",
    )
    min_p: float = answer_option(
        MIN_P,
        "--min-p $LLAMA_ARG_MIN_P",
        "Leave out tokens below this fraction of the likeliest one's probability; 0 is off.",
    )
    repeat_penalty: float = answer_option(
        REPEAT_PENALTY,
        "--repeat-penalty $LLAMA_ARG_REPEAT_PENALTY",
        "By how much the logits of the last 64 tokens are divided; 1 is off.",
    )
    seed: int = answer_option(SEED, "-s --seed", "Seed of the random choices; -1 draws a new one for each request.")
    n_predict: int = answer_option(
        MAX_TOKENS,
        "-n --predict --n-predict $LLAMA_ARG_N_PREDICT",
        "Longest answer in tokens where a request names none; -1 is no limit but the context.",
    )
    host: tuple[str, ...] = option(
        ("127.0.0.1",),
        "--host $LLAMA_ARG_HOST",
        "Addresses to listen on, with commas between; 0.0.0.0 lets other computers in.",
    )
    port: int | None = option(
        None,
        "--port $LLAMA_ARG_PORT",
        "Port to listen on; 0 takes any free one. [default: 8080, or the next free one]",
        click.IntRange(0, 65535),
    )
    alias: tuple[str, ...] = option(
        (),
        "-a --alias $LLAMA_ARG_ALIAS",
        "The model's name towards clients; of several, answers bear the first in the alphabet. [default: the file's]",
    )
    tags: tuple[str, ...] = option((), "--tags $LLAMA_ARG_TAGS", "The model's tags, as /v1/models reports them.")
    chat_template: str | None = option(
        None,
        "--chat-template $LLAMA_ARG_CHAT_TEMPLATE",
        "Jinja chat template to use instead of the model's own, or the name of one of llama.cpp's (llama3).",
    )
    chat_template_file: Path | None = option(
        None,
        "--chat-template-file $LLAMA_ARG_CHAT_TEMPLATE_FILE",
        "File with a Jinja chat template to use instead of the model's own.",
        _FILE,
    )
    chat_template_kwargs: Mapping[str, Any] | None = option(
        None,
        "--chat-template-kwargs $LLAMA_ARG_CHAT_TEMPLATE_KWARGS",
        "More variables for the chat template, as a JSON object.",
        _JsonObject(),
    )
    parse_special: bool = option(
        False,
        "--parse-special",
        "Read the names of control tokens in messages, such as <|im_end|>, as those tokens, as llama-server does.",
    )
    reasoning: str = option(
        "auto",
        "-rea --reasoning $LLAMA_ARG_REASONING",
        "Whether a thinking model thinks before it answers; auto: as its chat template does.",
        click.Choice(["on", "off", "auto"]),
    )
    reasoning_format: str = option(
        "auto",
        "--reasoning-format $LLAMA_ARG_THINK",
        "Where thinking goes: none leaves it in the answer, the others report it in a field of its own.",
        click.Choice(["none", "auto", "deepseek"]),
    )
    reasoning_budget: str = option(
        "-1",
        "--reasoning-budget $LLAMA_ARG_THINK_BUDGET",
        "0 turns thinking off, as --reasoning off does.",
        click.Choice(["-1", "0"]),
    )
    api_keys: tuple[str, ...] = option(
        (),
        "--api-key $LLAMA_API_KEY",
        "API keys, one of which a request must bring; without any, everybody who reaches the port is let in.",
    )
    api_key_file: Path | None = option(
        None, "--api-key-file", "File with API keys, one a line; lines that begin with # are skipped.", _FILE
    )
    allowed_hosts: tuple[str, ...] = option(
        (), "--allowed-hosts", "Names by which this server may be called, beside localhost and addresses in digits."
    )
    cors_origins: tuple[str, ...] = option(
        (),
        "--cors-origins $LLAMA_ARG_CORS_ORIGINS",
        "Origins of other pages that may use the API; localhost: those on this machine, *: all.",
    )
    slots: bool = option(
        True,
        "--slots/--no-slots $LLAMA_ARG_ENDPOINT_SLOTS",
        "Serve GET /slots, which reports what each slot is doing. [default: on]",
    )
    slot_save_path: Path | None = option(
        None,
        "--slot-save-path",
        "Folder in which POST /slots may save the slots' KV cache. [default: it may not]",
        _FILE,
    )
    metrics: bool = option(False, "--metrics $LLAMA_ARG_ENDPOINT_METRICS", "Serve GET /metrics, for Prometheus.")
    props: bool = option(False, "--props $LLAMA_ARG_ENDPOINT_PROPS", "Accept POST /props, as llama-server does.")
    ui: bool = option(True, "--ui/--no-ui --webui/--no-webui $LLAMA_ARG_UI", "Serve the chat page. [default: on]")
    server: bool = option(False, "--server", "Accepted for llamafile's command lines; serving is the default.")
    nobrowser: bool = option(False, "--nobrowser", "Don't open the chat page.")
    lora: tuple[str, ...] = option((), "--lora", "LoRA adapters to apply, GGUF files with commas between.")
    lora_scaled: tuple[str, ...] = option(
        (), "--lora-scaled", "LoRA adapters to apply with a scale, each as FILE:SCALE, with commas between."
    )
    lora_init_without_apply: bool = option(
        False, "--lora-init-without-apply", "Load adapters, but leave it to requests to apply them."
    )
    no_sandbox: bool = option(
        False,
        "--no-sandbox",
        "Keep the rights to start programs, to connect to others and to open any file, which serving doesn't need.",
    )
    no_history: bool = option(False, "--no-history", "Keep no chats on this computer.")
    verbose: bool = option(
        False,
        "-v --verbose $LLAMA_ARG_VERBOSE",
        "Print more: the logs of llama.cpp and of the server, and an error's traceback.",
    )


# By the names of the fields.
OPTIONS = {
    each.name: Option([each.name, *each.metadata["flags"]], **each.metadata["attributes"]) for each in fields(Settings)
}

# The fields of Settings by the names that requests and recipes have for an answer's settings.
ANSWER_FIELDS = {each.metadata["answer"]: each.name for each in fields(Settings) if each.metadata["answer"] is not None}
