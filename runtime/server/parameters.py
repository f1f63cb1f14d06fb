"""The request fields that llama.cpp's dialect and OpenAI's write with the same names: sampling, prompt, stop strings.

OpenAI's sampling fields are a subset of llama.cpp's, and clients of either send the others' as extras.
"""

import asyncio
from typing import TYPE_CHECKING, Any

from runtime.engine.sampling import Sampler, SamplingParams, sampler_lettered, sampler_named
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
        repeat_last_n=_last_n(body, "repeat_last_n", defaults.repeat_last_n),
        presence_penalty=body.number("presence_penalty", defaults.presence_penalty),
        frequency_penalty=body.number("frequency_penalty", defaults.frequency_penalty),
        top_n_sigma=body.number("top_n_sigma", defaults.top_n_sigma),
        xtc_probability=body.number("xtc_probability", defaults.xtc_probability),
        xtc_threshold=body.number("xtc_threshold", defaults.xtc_threshold),
        dynatemp_range=body.number("dynatemp_range", defaults.dynatemp_range),
        dynatemp_exponent=body.number("dynatemp_exponent", defaults.dynatemp_exponent),
        dry_multiplier=body.number("dry_multiplier", defaults.dry_multiplier),
        dry_base=body.number("dry_base", defaults.dry_base),
        dry_allowed_length=body.integer("dry_allowed_length", defaults.dry_allowed_length, low=0, high=_INT32_MAX),
        dry_penalty_last_n=_last_n(body, "dry_penalty_last_n", defaults.dry_penalty_last_n),
        dry_sequence_breakers=_breakers(body, defaults.dry_sequence_breakers),
        mirostat=body.integer("mirostat", defaults.mirostat, low=0, high=2),
        mirostat_tau=body.number("mirostat_tau", defaults.mirostat_tau),
        mirostat_eta=body.number("mirostat_eta", defaults.mirostat_eta),
        adaptive_target=body.number("adaptive_target", defaults.adaptive_target, high=1),
        adaptive_decay=body.number("adaptive_decay", defaults.adaptive_decay, low=0, high=0.99),
        min_keep=body.integer("min_keep", defaults.min_keep, low=0, high=_INT32_MAX),
        order=_order(body, defaults.order),
        logit_bias=_logit_bias(body.raw("logit_bias")) or defaults.logit_bias,
        seed=_seed(body, defaults.seed),
    )


def _last_n(body: Body, name: str, default: int) -> int:
    return min(body.integer(name, default, low=-1), _MAX_LAST_N)


def _breakers(body: Body, default: tuple[str, ...]) -> tuple[str, ...]:
    if "dry_sequence_breakers" not in body:
        return default
    breakers = body.texts("dry_sequence_breakers")
    if not breakers or any("\0" in breaker for breaker in breakers):
        raise RequestError("'dry_sequence_breakers' must be a list of at least one text", "dry_sequence_breakers")
    return breakers


def _order(body: Body, default: tuple[Sampler, ...]) -> tuple[Sampler, ...]:
    """Return the samplers in the order that a request wants: names in a list, or llama.cpp's letters in one text."""
    given = body.raw("samplers")
    if given is None:
        return default
    names = list(given) if isinstance(given, str) else body.texts("samplers")
    known = [sampler_lettered(name) if isinstance(given, str) else sampler_named(name) for name in names]
    if None in known:
        names_known = ", ".join(sampler.label for sampler in Sampler)
        unknown = names[known.index(None)]
        raise RequestError(f"'samplers' has {unknown!r}, which is none of {names_known}", "samplers")
    return tuple(sampler for sampler in known if sampler is not None)


def _logit_bias(value: object) -> tuple[tuple[int | str, float], ...]:
    """Return what a request adds to logits: OpenAI's object by token id, or llama.cpp's list of pairs.

    In the latter a token may be a text, whose every token is meant, and a bias `false`, which forbids it.
    """
    if value is None:
        return ()
    if isinstance(value, dict):
        pairs: list[object] = [[int(key) if _is_token_id(key) else key, bias] for key, bias in value.items()]
    elif isinstance(value, list):
        pairs = value
    else:
        raise RequestError("'logit_bias' must be an object or a list of pairs", "logit_bias")
    return tuple(_bias(pair) for pair in pairs)


def _is_token_id(key: str) -> bool:
    return key.isascii() and key.isdecimal() and len(key) < 10


def _bias(pair: object) -> tuple[int | str, float]:
    match pair:
        case [int() | str() as token, False] if not isinstance(token, bool):
            return token, float("-inf")
        case [int() | str() as token, int() | float() as bias] if not isinstance(token, bool) and bias is not True:
            return token, float(bias)
    raise RequestError("each pair in 'logit_bias' must be a token id or text and a number or false", "logit_bias")


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
    """Return timings as llama-server writes them, in milliseconds; drafts are mentioned where there were any."""
    drafts = {"draft_n": timings.num_drafted_tokens, "draft_n_accepted": timings.num_accepted_tokens}
    return {
        "cache_n": timings.num_cached_tokens,
        **_rates("prompt", timings.num_prompt_tokens, timings.prompt_seconds),
        **_rates("predicted", timings.num_generated_tokens, timings.generation_seconds),
        **(drafts if timings.num_drafted_tokens else {}),
    }


def _rates(name: str, count: int, seconds: float) -> dict[str, Any]:
    milliseconds = seconds * 1000
    return {
        f"{name}_n": count,
        f"{name}_ms": milliseconds,
        f"{name}_per_token_ms": milliseconds / count if count else 0.0,
        f"{name}_per_second": count / seconds if seconds > 0 else 0.0,
    }
