"""The request fields that llama.cpp's dialect and OpenAI's write with the same names: sampling, prompt, stop strings.

OpenAI's sampling fields are a subset of llama.cpp's, and clients of either send the others' as extras.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from runtime.engine.sampling import SamplingParams
from runtime.engine.sequence import Timings
from runtime.errors import RequestError
from runtime.server.body import Body

if TYPE_CHECKING:
    from runtime.engine.engine import Engine

_INT32_MAX = 2**31 - 1
_UINT32_MAX = 2**32 - 1
# The penalties' window is allocated at once; beyond any context a longer one means the same.
_MAX_LAST_N = 2**20

# What would change the answer but isn't built yet, with the values that ask for nothing. Refused, never ignored.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {
    "grammar": ("",),
    "json_schema": ({},),
    "logit_bias": ({}, []),
    "mirostat": (0, 0.0),
    "dynatemp_range": (0, 0.0),
    "xtc_probability": (0, 0.0),
    "dry_multiplier": (0, 0.0),
    "n_probs": (0, 0.0),
    "image_data": ([],),
    "lora": ([],),
}


def read_sampling(body: Body, defaults: SamplingParams) -> SamplingParams:
    """Return the sampling settings, absent ones from `defaults`. Raises RequestError for what can't be honoured."""
    for name, harmless in _UNSUPPORTED.items():
        body.refuse(name, but=harmless)
    return SamplingParams(
        temperature=body.number("temperature", defaults.temperature),
        top_k=body.integer("top_k", defaults.top_k, low=-_INT32_MAX, high=_INT32_MAX),
        top_p=body.number("top_p", defaults.top_p),
        min_p=body.number("min_p", defaults.min_p),
        typical_p=body.number("typical_p", defaults.typical_p),
        # Logits are divided by it.
        repeat_penalty=body.number("repeat_penalty", defaults.repeat_penalty, low=0.01),
        repeat_last_n=min(body.integer("repeat_last_n", defaults.repeat_last_n, low=-1), _MAX_LAST_N),
        presence_penalty=body.number("presence_penalty", defaults.presence_penalty),
        frequency_penalty=body.number("frequency_penalty", defaults.frequency_penalty),
        seed=_seed(body, defaults.seed),
    )


def _seed(body: Body, default: int | None) -> int | None:
    seed = body.optional_integer("seed")
    if seed is None:
        return default
    # llama.cpp's seeds have 32 bits, all of them set meaning "draw one"; OpenAI's have 64.
    folded = seed & _UINT32_MAX
    return None if seed < 0 or folded == _UINT32_MAX else folded


def read_max_tokens(body: Body, *names: str, default: int | None) -> int | None:
    """Return the first of these fields that is there.

    A negative number leaves it to the server's own limit, as in llama-server: clients send -1 without meaning it.
    """
    for name in names:
        limit = body.optional_integer(name)
        if limit is not None:
            return limit if limit >= 0 else default
    return default


def read_stop(body: Body) -> tuple[str, ...]:
    return tuple(stop for stop in body.texts("stop") if stop)


async def tokenize_prompt(engine: "Engine", value: object, param: str = "prompt") -> tuple[int, ...]:
    """Return the tokens of a prompt: a text, a list of token ids, or one list that mixes the two.

    A list of one prompt is that prompt; a list of several is refused. Raises RequestError.
    """
    if isinstance(value, str):
        return await _tokenize(engine, value, is_first=True)
    if not isinstance(value, list) or not value:
        raise RequestError(f"'{param}' must be a text or a list of token ids", param)
    if all(is_token(item) for item in value):
        return tuple(value)
    if any(is_token(item) for item in value) and all(isinstance(item, str) or is_token(item) for item in value):
        tokens: list[int] = []
        for index, item in enumerate(value):
            tokens += await _tokenize(engine, item, is_first=index == 0) if isinstance(item, str) else (item,)
        return tuple(tokens)
    if len(value) == 1 and (isinstance(value[0], str) or (isinstance(value[0], list) and all(map(is_token, value[0])))):
        return await tokenize_prompt(engine, value[0], param)
    if all(isinstance(item, (str, list)) for item in value):
        raise RequestError(f"'{param}' holds several prompts; send one in a request", param)
    raise RequestError(f"'{param}' must be a text or a list of token ids", param)


def is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


async def _tokenize(engine: "Engine", text: str, *, is_first: bool) -> tuple[int, ...]:
    # A thread, because a long text takes long and other streams must not wait for it.
    return tuple(await asyncio.to_thread(engine.tokenize, text, add_special=is_first, parse_special=True))


def timings_json(timings: Timings) -> dict[str, Any]:
    """Return timings as llama-server writes them, in milliseconds."""
    return {
        "cache_n": timings.num_cached_tokens,
        **_rates("prompt", timings.num_prompt_tokens, timings.prompt_seconds),
        **_rates("predicted", timings.num_generated_tokens, timings.generation_seconds),
    }


def _rates(name: str, count: int, seconds: float) -> dict[str, Any]:
    milliseconds = seconds * 1000
    return {
        f"{name}_n": count,
        f"{name}_ms": milliseconds,
        f"{name}_per_token_ms": milliseconds / count if count else 0.0,
        f"{name}_per_second": count / seconds if seconds > 0 else 0.0,
    }
