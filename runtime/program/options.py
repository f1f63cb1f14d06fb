"""Every setting, declared once: its name, its flags, what it takes, what it is for.

Flags and environment variables bear llama.cpp's and llamafile's names.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click


def _option(*flags: str, kind: click.ParamType[Any], text: str, env: str | None = None) -> dict[str, Any]:
    return {"flags": flags, "kind": kind, "text": text, "env": env}


class _GpuLayers(click.ParamType[int]):
    """A number, or llama.cpp's words `auto` and `all`."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value in ("auto", "all"):
            return -1
        return int(click.INT.convert(value, param, ctx))


class Words(click.ParamType[tuple[str, ...]]):
    """A list with commas between."""

    name = "list"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, (list, tuple)) and all(isinstance(word, str) for word in value):
            return tuple(value)
        if not isinstance(value, str):
            self.fail(f"{value!r} is not a list of texts", param, ctx)
        return tuple(word.strip() for word in value.split(",") if word.strip())


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


METAVARS: dict[Any, str] = {
    click.IntRange: "N",
    click.FloatRange: "X",
    _GpuLayers: "N",
    Words: "A,B",
    _JsonObject: "JSON",
}
_FRACTION = click.FloatRange(0, 1)
_FILE = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One launch. Context and batch sizes in tokens; None means chosen by the machine and the model."""

    model: Path | None = field(
        default=None,
        metadata=_option(
            "-m",
            "--model",
            kind=_FILE,
            env="LLAMA_ARG_MODEL",
            text="GGUF file to use instead of the model inside this file.",
        ),
    )
    n_ctx: int | None = field(
        default=None,
        metadata=_option(
            "-c",
            "--ctx-size",
            kind=click.IntRange(min=0),
            env="LLAMA_ARG_CTX_SIZE",
            text="Tokens of context, shared by all requests that run at once; 0 is the model's maximum. "
            "[default: 8192, or less where the model or the memory ends sooner]",
        ),
    )
    n_threads: int | None = field(
        default=None,
        metadata=_option(
            "-t",
            "--threads",
            kind=click.INT,
            env="LLAMA_ARG_THREADS",
            text="Threads to compute with. [default: as many as the machine can give at the moment]",
        ),
    )
    n_batch: int = field(
        default=512,
        metadata=_option(
            "-b",
            "--batch-size",
            kind=click.IntRange(min=1),
            env="LLAMA_ARG_BATCH",
            text="Tokens computed in one step.",
        ),
    )
    n_parallel: int = field(
        default=8,
        metadata=_option(
            "-np",
            "--parallel",
            kind=click.IntRange(1, 256),
            env="LLAMA_ARG_N_PARALLEL",
            text="Requests computed at once; they share the context.",
        ),
    )
    kv_unified: bool = field(
        default=True,
        metadata=_option(
            "-kvu/-no-kvu",
            "--kv-unified/--no-kv-unified",
            kind=click.BOOL,
            env="LLAMA_ARG_KV_UNIFIED",
            text="Let a request use all of the context, at the cost of others; else each has an equal part. "
            "[default: on]",
        ),
    )
    max_queue: int = field(
        default=256,
        metadata=_option(
            "--max-queue",
            kind=click.IntRange(min=1),
            text="Requests that may wait for their turn; more are refused with 503 and Retry-After.",
        ),
    )
    cache_ram: int = field(
        default=1024,
        metadata=_option(
            "-cram",
            "--cache-ram",
            kind=click.IntRange(min=-1),
            env="LLAMA_ARG_CACHE_RAM",
            text="MiB for conversations that had to leave the context, so that they go on without being computed "
            "again; 0 keeps none, -1 all.",
        ),
    )
    context_shift: bool = field(
        default=False,
        metadata=_option(
            "--context-shift",
            kind=click.BOOL,
            env="LLAMA_ARG_CONTEXT_SHIFT",
            text="When the context is full, drop older tokens and go on instead of ending the answer.",
        ),
    )
    n_keep: int = field(
        default=0,
        metadata=_option(
            "--keep",
            kind=click.IntRange(min=-1),
            text="Tokens of the prompt that a context shift keeps; -1 is all.",
        ),
    )
    spec_type: str = field(
        default="none",
        metadata=_option(
            "--spec-type",
            kind=click.Choice(["none", "ngram-simple"]),
            env="LLAMA_ARG_SPEC_TYPE",
            text="Guess tokens ahead from the text itself: faster where answers repeat or quote, the text is the same.",
        ),
    )
    projector: Path | None = field(
        default=None,
        metadata=_option(
            "-mm", "--mmproj", kind=_FILE, env="LLAMA_ARG_MMPROJ", text="Projector to read pictures or sounds with."
        ),
    )
    no_projector: bool = field(
        default=False,
        metadata=_option("--no-mmproj", kind=click.BOOL, text="Leave out the projector inside this file."),
    )
    draft_model: Path | None = field(
        default=None,
        metadata=_option(
            "-md",
            "--model-draft",
            "--spec-draft-model",
            kind=_FILE,
            env="LLAMA_ARG_SPEC_DRAFT_MODEL",
            text="GGUF file of a small model of the same family that guesses tokens ahead; the text is the same.",
        ),
    )
    draft_max: int = field(
        default=16,
        metadata=_option(
            "--spec-draft-n-max",
            kind=click.IntRange(0, 64),
            env="LLAMA_ARG_SPEC_DRAFT_N_MAX",
            text="Tokens guessed ahead at most.",
        ),
    )
    pooling: str | None = field(
        default=None,
        metadata=_option(
            "--pooling",
            kind=click.Choice(["none", "mean", "cls", "last", "rank"]),
            env="LLAMA_ARG_POOLING",
            text="How embeddings are made of a text's tokens. [default: the model's own way, else the mean]",
        ),
    )
    embd_normalize: int = field(
        default=2,
        metadata=_option(
            "--embd-normalize",
            kind=click.IntRange(-1, 1000),
            text="How vectors are scaled where a request doesn't say: -1 not at all, 0 by the largest, 1 taxicab, "
            "2 to length 1, others p-norm.",
        ),
    )
    n_predict: int = field(
        default=-1,
        metadata=_option(
            "-n",
            "--predict",
            "--n-predict",
            kind=click.IntRange(min=-1),
            env="LLAMA_ARG_N_PREDICT",
            text="Longest answer in tokens where a request names none; -1 is no limit but the context.",
        ),
    )
    n_gpu_layers: int = field(
        default=-1,
        metadata=_option(
            "-ngl",
            "--gpu-layers",
            "--n-gpu-layers",
            kind=_GpuLayers(),
            env="LLAMA_ARG_N_GPU_LAYERS",
            text="Layers to compute on a GPU where there is one; -1 is all.",
        ),
    )
    temperature: float = field(
        default=0.8,
        metadata=_option(
            "--temp",
            "--temperature",
            kind=click.FloatRange(min=0),
            env="LLAMA_ARG_TEMPERATURE",
            text="How adventurous answers are; 0 always takes the likeliest token.",
        ),
    )
    top_k: int = field(
        default=40,
        metadata=_option(
            "--top-k",
            kind=click.INT,
            env="LLAMA_ARG_TOP_K",
            text="Choose among the k likeliest tokens; 0 is off.",
        ),
    )
    top_p: float = field(
        default=0.95,
        metadata=_option(
            "--top-p",
            kind=_FRACTION,
            env="LLAMA_ARG_TOP_P",
            text="Choose among the likeliest tokens that together have this probability; 1 is off.",
        ),
    )
    min_p: float = field(
        default=0.05,
        metadata=_option(
            "--min-p",
            kind=_FRACTION,
            env="LLAMA_ARG_MIN_P",
            text="Leave out tokens below this fraction of the likeliest one's probability; 0 is off.",
        ),
    )
    repeat_penalty: float = field(
        default=1.0,
        metadata=_option(
            "--repeat-penalty",
            kind=click.FloatRange(min=0, min_open=True),
            env="LLAMA_ARG_REPEAT_PENALTY",
            text="How much tokens of the last 64 are held back; 1 is off.",
        ),
    )
    seed: int = field(
        default=-1,
        metadata=_option(
            "-s",
            "--seed",
            kind=click.IntRange(-1, 2**32 - 1),
            text="Seed of the random choices; -1 draws a new one for each request.",
        ),
    )
    host: tuple[str, ...] = field(
        default=("127.0.0.1",),
        metadata=_option(
            "--host",
            kind=Words(),
            env="LLAMA_ARG_HOST",
            text="Addresses to listen on, with commas between; 0.0.0.0 lets other computers in.",
        ),
    )
    port: int | None = field(
        default=None,
        metadata=_option(
            "--port",
            kind=click.IntRange(0, 65535),
            env="LLAMA_ARG_PORT",
            text="Port to listen on; 0 takes any free one. [default: 8080, or the next free one]",
        ),
    )
    alias: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "-a",
            "--alias",
            kind=Words(),
            env="LLAMA_ARG_ALIAS",
            text="The model's name towards clients; of several it is shown by the first in the alphabet. "
            "[default: the file's]",
        ),
    )
    tags: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "--tags", kind=Words(), env="LLAMA_ARG_TAGS", text="Words about the model that /v1/models tells."
        ),
    )
    chat_template: str | None = field(
        default=None,
        metadata=_option(
            "--chat-template",
            kind=click.STRING,
            env="LLAMA_ARG_CHAT_TEMPLATE",
            text="Jinja chat template to use instead of the model's own, or the name of one of llama.cpp's (llama3).",
        ),
    )
    chat_template_file: Path | None = field(
        default=None,
        metadata=_option(
            "--chat-template-file",
            kind=_FILE,
            env="LLAMA_ARG_CHAT_TEMPLATE_FILE",
            text="File with such a template.",
        ),
    )
    chat_template_kwargs: Mapping[str, Any] | None = field(
        default=None,
        metadata=_option(
            "--chat-template-kwargs",
            kind=_JsonObject(),
            env="LLAMA_ARG_CHAT_TEMPLATE_KWARGS",
            text="More variables for the chat template, as a JSON object.",
        ),
    )
    reasoning: str = field(
        default="auto",
        metadata=_option(
            "-rea",
            "--reasoning",
            kind=click.Choice(["on", "off", "auto"]),
            env="LLAMA_ARG_REASONING",
            text="Whether a model that can is to think before it answers; auto leaves it to its template.",
        ),
    )
    reasoning_format: str = field(
        default="auto",
        metadata=_option(
            "--reasoning-format",
            kind=click.Choice(["none", "auto", "deepseek"]),
            env="LLAMA_ARG_THINK",
            text="none: thinking is part of the answer; otherwise it is told apart.",
        ),
    )
    reasoning_budget: str = field(
        default="-1",
        metadata=_option(
            "--reasoning-budget",
            kind=click.Choice(["-1", "0"]),
            env="LLAMA_ARG_THINK_BUDGET",
            text="0 turns thinking off, as --reasoning off does.",
        ),
    )
    api_keys: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "--api-key",
            kind=Words(),
            env="LLAMA_API_KEY",
            text="Keys of which a request must bring one; without any, everybody who reaches the port is let in.",
        ),
    )
    api_key_file: Path | None = field(
        default=None,
        metadata=_option(
            "--api-key-file",
            kind=_FILE,
            text="File with such keys, one a line; lines that begin with # are skipped.",
        ),
    )
    allowed_hosts: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "--allowed-hosts",
            kind=Words(),
            text="Names by which this server may be called, beside localhost and addresses in digits.",
        ),
    )
    cors_origins: tuple[str, ...] = field(
        default=(),
        metadata=_option(
            "--cors-origins",
            kind=Words(),
            env="LLAMA_ARG_CORS_ORIGINS",
            text="Origins of other pages that may use the API; localhost: those on this machine, *: all.",
        ),
    )
    slots: bool = field(
        default=True,
        metadata=_option(
            "--slots/--no-slots",
            kind=click.BOOL,
            env="LLAMA_ARG_ENDPOINT_SLOTS",
            text="Serve GET /slots, which tells what each slot is doing. [default: on]",
        ),
    )
    slot_save_path: Path | None = field(
        default=None,
        metadata=_option(
            "--slot-save-path",
            kind=_FILE,
            text="Folder in which POST /slots may save the slots' KV cache. [default: it may not]",
        ),
    )
    metrics: bool = field(
        default=False,
        metadata=_option(
            "--metrics",
            kind=click.BOOL,
            env="LLAMA_ARG_ENDPOINT_METRICS",
            text="Serve GET /metrics, for Prometheus.",
        ),
    )
    props: bool = field(
        default=False,
        metadata=_option(
            "--props", kind=click.BOOL, env="LLAMA_ARG_ENDPOINT_PROPS", text="Accept POST /props, as llama-server does."
        ),
    )
    ui: bool = field(
        default=True,
        metadata=_option(
            "--ui/--no-ui",
            "--webui/--no-webui",
            kind=click.BOOL,
            env="LLAMA_ARG_UI",
            text="Serve the chat page. [default: on]",
        ),
    )
    server: bool = field(
        default=False, metadata=_option("--server", kind=click.BOOL, text="Serve only (what happens anyway).")
    )
    nobrowser: bool = field(
        default=False, metadata=_option("--nobrowser", kind=click.BOOL, text="Don't open the chat page.")
    )
    lora: tuple[str, ...] = field(
        default=(),
        metadata=_option("--lora", kind=Words(), text="LoRA adapters to apply, GGUF files with commas between."),
    )
    lora_scaled: tuple[str, ...] = field(
        default=(),
        metadata=_option("--lora-scaled", kind=Words(), text="The same, each as FILE:SCALE."),
    )
    lora_init_without_apply: bool = field(
        default=False,
        metadata=_option(
            "--lora-init-without-apply",
            kind=click.BOOL,
            text="Load adapters, but leave it to requests to apply them.",
        ),
    )
    no_history: bool = field(
        default=False, metadata=_option("--no-history", kind=click.BOOL, text="Keep no chats on this computer.")
    )
    verbose: bool = field(
        default=False, metadata=_option("-v", "--verbose", kind=click.BOOL, text="Say more, llama.cpp included.")
    )
    origins: Mapping[str, str] = field(default_factory=dict, metadata={"flags": ()})
