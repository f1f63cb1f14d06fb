"""The request fields that llama.cpp's dialect and OpenAI's write with the same names: sampling, LoRA, stop strings.

OpenAI's sampling fields are a subset of llama.cpp's, and clients of either send the others' as extras.
"""

from dataclasses import replace
from typing import Any

from runtime.checked import JsonObject, wrong
from runtime.engine.values.answer_settings import REPEAT_PENALTY
from runtime.engine.values.grammar import Grammar
from runtime.engine.values.request import GenerationParams
from runtime.engine.values.sampling import Sampler, SamplingParams, sampler_lettered, sampler_named
from runtime.errors import RequestError
from runtime.server.asking.fields import OBJECT, OBJECTS, Field, Flag, Integer, Number, Special, Text, Texts
from runtime.server.asking.formats import read_grammar

_INT32_MAX = 2**31 - 1
_UINT32_MAX = 2**32 - 1
_FLOAT32_MAX = 3.4e38
# The penalties' window is allocated at once; beyond any context a longer one means the same.
_MAX_LAST_N = 2**20
# The texts become tokens when each answer begins.
_MAX_BIASES = 10_000
_MAX_BIASED_CHARACTERS = 10_000
_SHOWN_CHARACTERS = 40  # of what an error names
MAX_PROBS = 1000  # of each token; each is about a hundred bytes of an answer

# What would change the answer but isn't built yet, with the values that ask for nothing. Refused, never ignored.
_UNSUPPORTED: dict[str, tuple[object, ...]] = {"image_data": ([],)}


_WINDOW = {"low": -1, "clamp": _MAX_LAST_N}

# Those whose name here is their name in SamplingParams.
_PLAIN: tuple[Integer | Number, ...] = (
    Number("temperature", "Scale of randomness; 0 always takes the likeliest token."),
    Integer("top_k", "Choose among the k likeliest tokens; 0 is off.", low=-_INT32_MAX, high=_INT32_MAX),
    Number("top_p", "Choose among the likeliest tokens that together have this probability; 1 is off."),
    Number("min_p", "Leave out tokens below this fraction of the likeliest one's probability; 0 is off."),
    Number("typical_p", "Choose among the tokens that surprise about as much as expected; 1 is off."),
    Number("repeat_penalty", "Divides the logits of recent tokens; 1 is off.", low=REPEAT_PENALTY.minimum),
    Integer("repeat_last_n", "How many tokens count as recent; 0 is off, -1 is the whole context.", **_WINDOW),
    Number("presence_penalty", "Subtracted from the logits of recent tokens; 0 is off."),
    Number("frequency_penalty", "Subtracted from a recent token's logit once for each occurrence; 0 is off."),
    Number("top_n_sigma", "Leave out tokens this many standard deviations below the likeliest one; negative is off."),
    Number("xtc_probability", "How often the likeliest tokens are left out; 0 is off."),
    Number("xtc_threshold", "Probability from which on xtc may leave a token out."),
    Number("dynatemp_range", "How far the temperature varies with the entropy of the choice; 0 is off."),
    Number("dynatemp_exponent", "Exponent of that variation."),
    Number("dry_multiplier", "Scale of the penalty for repeating whole phrases; 0 is off."),
    Number("dry_base", "Base of the penalty's growth with the phrase's length."),
    Integer("dry_allowed_length", "Phrases of up to this many tokens may be repeated.", low=0, high=_INT32_MAX),
    Integer("dry_penalty_last_n", "How far back phrases are searched; 0 is off, -1 is the whole context.", **_WINDOW),
    Integer("mirostat", "1 or 2: keep the answer's surprise at mirostat_tau; 0 is off.", low=0, high=2),
    Number("mirostat_tau", "The surprise that mirostat keeps."),
    Number("mirostat_eta", "Learning rate of mirostat."),
    Number("adaptive_target", "The probability that adaptive_p aims at; negative is off.", high=1),
    Number("adaptive_decay", "How slowly adaptive_p forgets, from 0 to 0.99.", low=0, high=0.99),
    Integer("n_probs", "Report this many of the likeliest tokens beside each token.", low=0, high=MAX_PROBS),
    Integer("min_keep", "The fewest tokens that samplers leave to choose among.", low=0, high=_INT32_MAX),
)
# Each is looked for in every token of the vocabulary before the answer begins.
_BREAKERS = Texts("dry_sequence_breakers", "Texts at which a phrase ends.", most=32)
_SAMPLERS = Special(
    "samplers",
    "The samplers in their order, each once, by name or by llama.cpp's letters.",
    {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "uniqueItems": True}]},
)
_LOGIT_BIAS = Special(
    "logit_bias",
    "Added to tokens' logits: an object by token id, or a list of pairs; false forbids a token.",
    {"type": ["object", "array"], "maxItems": _MAX_BIASES, "maxProperties": _MAX_BIASES},
)
_GRAMMAR = Special("grammar", "GBNF that the answer follows.", {"type": "string"})
_JSON_SCHEMA = Special("json_schema", "JSON schema that the answer follows.", OBJECT)
_POST_SAMPLING_PROBS = Flag("post_sampling_probs", "Report probabilities after the samplers, not the model's.")
_SEED = Integer("seed", "The same seed gives the same answer; negative draws one.")
SAMPLING_FIELDS: tuple[Field, ...] = (
    *_PLAIN,
    _BREAKERS,
    _SAMPLERS,
    _LOGIT_BIAS,
    _GRAMMAR,
    _JSON_SCHEMA,
    _POST_SAMPLING_PROBS,
    _SEED,
)

MODEL = Text("model", "Any name: there is one model.")
STREAM = Flag("stream", "Send the answer piece by piece.")
_IGNORE_EOS = Flag("ignore_eos", "Never choose the end of the text.")
_CACHE_PROMPT = Flag("cache_prompt", "Reuse what the cache holds of the prompt's beginning.")
_ID_SLOT = Integer("id_slot", "Compute in this slot; -1: in any.", low=-1, high=_INT32_MAX)
_RETURN_PROGRESS = Flag("return_progress", "In a stream, report how much of the prompt is computed.")
_TIMINGS_PER_TOKEN = Flag("timings_per_token", "In a stream, send timings with every piece.")
SLOT_FIELDS = (_IGNORE_EOS, _CACHE_PROMPT, _ID_SLOT)
PROGRESS_FIELDS = (_RETURN_PROGRESS, _TIMINGS_PER_TOKEN)
LORA = Special("lora", "Adapters to apply, each by its id with a scale; all others are off.", OBJECTS)
# Each is looked for after every token.
STOP = Texts("stop", "Texts that end the answer and are no part of it.", most=256, max_characters=16_384)


def read_sampling(body: JsonObject, defaults: SamplingParams) -> SamplingParams:
    """Return the sampling settings, absent ones from `defaults`. Raises RequestError for what can't be honoured."""
    for name, harmless in _UNSUPPORTED.items():
        body.refuse(name, but=harmless)
    plain: dict[str, Any] = {each.name: each.value_in(body, getattr(defaults, each.name)) for each in _PLAIN}
    return SamplingParams(
        **plain,
        dry_sequence_breakers=_breakers(body, defaults.dry_sequence_breakers),
        order=_order(body, defaults.order),
        logit_bias=_logit_bias(body.raw(_LOGIT_BIAS.name)) or defaults.logit_bias,
        seed=_seed(body, defaults.seed),
        grammar=read_grammar(body),
        post_sampling_probs=_POST_SAMPLING_PROBS.value_in(body, defaults.post_sampling_probs),
    )


def read_generation(body: JsonObject, defaults: GenerationParams, *max_tokens_names: str) -> GenerationParams:
    """Return what all clients say of how to generate; the limit stands in the first of those fields that is there.

    Raises RequestError for what can't be honoured.
    """
    return replace(
        defaults,
        sampling=read_sampling(body, defaults.sampling),
        max_tokens=read_max_tokens(body, *max_tokens_names, default=defaults.max_tokens),
        stop=read_stop(body),
        lora=read_lora(body),
    )


def with_slot(params: GenerationParams, body: JsonObject) -> GenerationParams:
    """Return the parameters with what `SLOT_FIELDS` say."""
    slot = _ID_SLOT.value_in(body, -1)
    return replace(
        params,
        ignore_eos=_IGNORE_EOS.value_in(body, False),
        cache_prompt=_CACHE_PROMPT.value_in(body, True),
        slot=slot if slot >= 0 else None,
    )


def with_progress(params: GenerationParams, body: JsonObject, *, is_streamed: bool) -> GenerationParams:
    """Return the parameters with what `PROGRESS_FIELDS` say, which concerns streams alone."""
    return replace(
        params,
        wants_progress=_RETURN_PROGRESS.value_in(body, False) and is_streamed,
        wants_timings=_TIMINGS_PER_TOKEN.value_in(body, False) and is_streamed,
    )


def held_to(params: GenerationParams, form: Grammar | None, num_top_logprobs: int | None) -> GenerationParams:
    """Return the parameters with the form that an answer is to have, if any, and the log-probabilities it is to bring.

    `num_top_logprobs` is how many of the likeliest tokens are reported beside each; None reports nothing of any.
    """
    sampling = replace(
        params.sampling,
        grammar=form or params.sampling.grammar,
        n_probs=0 if num_top_logprobs is None else max(1, num_top_logprobs),
        post_sampling_probs=False,
    )
    return replace(params, sampling=sampling)


def _breakers(body: JsonObject, default: tuple[str, ...]) -> tuple[str, ...]:
    if _BREAKERS.name not in body:
        return default
    breakers = _BREAKERS.value_in(body)
    if not breakers or any("\0" in breaker for breaker in breakers):
        raise wrong("dry_sequence_breakers", "a list of at least one text")
    return breakers


def _order(body: JsonObject, default: tuple[Sampler, ...]) -> tuple[Sampler, ...]:
    """Return the samplers in the order that a request wants: names in a list, or llama.cpp's letters in one text."""
    given = body.raw(_SAMPLERS.name)
    if given is None:
        return default
    names = given if isinstance(given, str) else body.texts(_SAMPLERS.name)
    read = sampler_lettered if isinstance(given, str) else sampler_named
    known = [read(name) for name in names[: len(Sampler) + 1]]  # a longer list has one twice
    if None in known:
        names_known = ", ".join(sampler.label for sampler in Sampler)
        unknown = names[known.index(None)][:_SHOWN_CHARACTERS]
        raise RequestError(f"'samplers' has {unknown!r}, which is none of {names_known}", "samplers")
    if len(set(known)) < len(known):
        raise wrong("samplers", "a list that names each sampler once at most")
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
        raise wrong("logit_bias", "an object or a list of pairs")
    if len(pairs) > _MAX_BIASES:
        raise wrong("logit_bias", f"at most {_MAX_BIASES:,} pairs")
    biases = tuple(_bias(pair) for pair in pairs)
    if sum(len(token) for token, _bias in biases if isinstance(token, str)) > _MAX_BIASED_CHARACTERS:
        raise wrong("logit_bias", f"at most {_MAX_BIASED_CHARACTERS:,} characters of text in all")
    return biases


def _is_token_id(key: str) -> bool:
    return key.isascii() and key.isdecimal() and len(key) < 10


def _bias(pair: object) -> tuple[int | str, float]:
    match pair:
        case [int() | str() as token, False] if not isinstance(token, bool):
            return token, float("-inf")
        case [int() | str() as token, int() | float() as bias] if not isinstance(token, bool) and bias is not True:
            if -_FLOAT32_MAX <= bias <= _FLOAT32_MAX:
                return token, float(bias)
    raise RequestError("each pair in 'logit_bias' must be a token id or text and a number or false", "logit_bias")


def _seed(body: JsonObject, default: int | None) -> int | None:
    seed = _SEED.value_in(body, None)
    if seed is None:
        return default
    # llama.cpp's seeds have 32 bits, all of them set meaning "draw one"; OpenAI's have 64.
    folded = seed & _UINT32_MAX
    return None if seed < 0 or folded == _UINT32_MAX else folded


def read_max_tokens(body: JsonObject, *names: str, default: int | None) -> int | None:
    """Return the first of these fields that is there.

    A negative number leaves it to the server's own limit, as in llama-server: clients send -1 without meaning it.
    """
    for name in names:
        limit = body.integer(name, None)
        if limit is not None:
            return limit if limit >= 0 else default
    return default


def read_num_logprobs(body: JsonObject) -> int:
    """Return how many of the likeliest tokens the field `logprobs` asks for, where it is a number."""
    return body.integer("logprobs", 0, low=0, high=MAX_PROBS)


def read_lora(body: JsonObject) -> tuple[tuple[int, float], ...] | None:
    """Return the adapters' scales that a request wants; None leaves them as they are."""
    value = body.raw(LORA.name)
    return None if value is None or value == [] else parse_scales(value)


def parse_scales(value: object) -> tuple[tuple[int, float], ...]:
    """Return llama.cpp's list of `{"id": …, "scale": …}` as pairs. Raises RequestError when it is something else."""
    if not isinstance(value, list):
        raise wrong(LORA.name, "a list of objects with 'id' and 'scale'")
    pairs = []
    for item in value:
        match item:
            case {"id": int() as index, "scale": int() | float() as scale} if not (
                isinstance(index, bool) or isinstance(scale, bool) or abs(scale) > _FLOAT32_MAX
            ):
                pairs.append((index, float(scale)))
            case _:
                raise RequestError("each of 'lora' must be an object with 'id' and 'scale'", LORA.name)
    return tuple(pairs)


def numbered_answer(params: GenerationParams, number: int) -> GenerationParams:
    """Return the parameters of a prompt's next answer: another seed, and whatever slot, as in llama-server."""
    if number == 0:
        return params
    seed = params.sampling.seed
    seed = None if seed is None else (seed + number) % 2**32
    return replace(params, slot=None, sampling=replace(params.sampling, seed=seed))


def read_stop(body: JsonObject) -> tuple[str, ...]:
    return tuple(stop for stop in STOP.value_in(body) if stop)
