"""A request's prompts: texts, token ids, lists of either, and llama.cpp's objects that bring pictures."""

import asyncio
from collections.abc import Sequence
from functools import partial

from runtime.chat.prompt_text import prompt_tokens
from runtime.checked import elements, wrong
from runtime.engine.interface import AnyEngine
from runtime.engine.values.request import MAX_TEXT_TOKENS, Prompt, TextPart
from runtime.errors import PromptTooLong, RequestError, TextTooLong
from runtime.server.asking.attachments import from_base64
from runtime.server.asking.threads import in_thread

MAX_PROMPTS = 256  # and answers in all; as many as may wait by default
_NUM_CHARS_AT_ONCE = 8192  # a millisecond or two


async def tokenize_prompt(engine: AnyEngine, value: object, param: str = "prompt") -> tuple[int, ...]:
    """Return the tokens of a prompt: a text, a list of token ids, or one list that mixes the two.

    A list of one prompt is that prompt; a list of several is refused. Raises RequestError.
    """
    if isinstance(value, str):
        return await _tokenize(engine, value, is_first=True)
    if not isinstance(value, list) or not value:
        raise wrong(param, "a text or a list of token ids")
    if is_token(value[0]) and len(value) >= engine.info.n_ctx:  # before each of very many is looked at
        raise PromptTooLong(len(value), engine.info.n_ctx)
    if all(is_token(item) for item in value):
        return tuple(value)
    if any(is_token(item) for item in value) and all(isinstance(item, str) or is_token(item) for item in value):
        tokens: list[int] = []
        for index, item in enumerate(value):
            tokens += await _tokenize(engine, item, is_first=index == 0) if isinstance(item, str) else (item,)
            if len(tokens) >= engine.info.n_ctx + _NUM_CHARS_AT_ONCE:
                raise PromptTooLong(len(tokens), engine.info.n_ctx, is_counted=False)
        return tuple(tokens)
    if len(value) == 1 and (isinstance(value[0], str) or (isinstance(value[0], list) and all(map(is_token, value[0])))):
        return await tokenize_prompt(engine, value[0], param)
    if all(isinstance(item, (str, list)) for item in value):
        raise RequestError(f"'{param}' holds several prompts; send one in a request", param)
    raise wrong(param, "a text or a list of token ids")


async def tokenize_prompts(
    engine: AnyEngine, value: object, param: str = "prompt", *, at_most: int = MAX_PROMPTS
) -> list[tuple[int, ...]]:
    """Return the tokens of each of the `prompts_in` a field, which are to become vectors. Raises RequestError."""
    tokenized: list[tuple[int, ...]] = []
    for index, prompt in enumerate(prompts_in(value, param, at_most=at_most)):
        try:
            tokenized.append(await tokenize_prompt(engine, prompt, param))
        except PromptTooLong as refusal:
            most = engine.max_text_tokens
            raise TextTooLong(param, index, refusal.num_prompt_tokens, most, is_counted=False) from None
        check_total(tokenized, param)
    return tokenized


def check_total(tokenized: Sequence[Sequence[int]], param: str) -> None:
    """Raise RequestError when a request's texts have too many tokens together."""
    if sum(map(len, tokenized)) > MAX_TEXT_TOKENS:
        raise RequestError(f"'{param}' holds more than {MAX_TEXT_TOKENS:,} tokens in all; send fewer texts", param)


async def read_prompts(engine: AnyEngine, value: object, param: str = "prompt") -> list[Prompt]:
    """Return the same as prompts, which may have pictures: in llama.cpp's objects `multimodal_data` holds files.

    Where each belongs, `prompt_string` has the `media_marker` of `/props`. Raises RequestError.
    """
    prompts: list[Prompt] = []
    for prompt in prompts_in(value, param, takes_media=True):
        prompts.append(await _read_prompt(engine, prompt, param))
        check_total([each.tokens for each in prompts], param)
    return prompts


async def _read_prompt(engine: AnyEngine, prompt: object, param: str) -> Prompt:
    if not isinstance(prompt, dict):
        return Prompt(await tokenize_prompt(engine, prompt, param))
    text, data = prompt.get("prompt_string"), prompt.get("multimodal_data")
    if not isinstance(text, str) or not isinstance(data, list):
        raise RequestError(f"'{param}' must have a text as 'prompt_string' and a list as 'multimodal_data'", param)
    files = [from_base64(*each) for each in elements(data, f"{param}.multimodal_data", "a list")]
    return await in_thread(len(text), engine.read, [TextPart(text)], files, param)


def prompts_in(
    value: object, param: str = "prompt", *, at_most: int = MAX_PROMPTS, takes_media: bool = False
) -> list[object]:
    """Return the prompts that a field holds: one in any of the ways that `tokenize_prompt` takes, or a list of those.

    A prompt may also be llama.cpp's object with `prompt_string`; with media, which are refused if not `takes_media`, it
    stays one. Raises RequestError.
    """
    prompts = value if isinstance(value, list) and not any(map(is_token, value)) else [value]
    if len(prompts) > at_most:
        raise RequestError(f"'{param}' holds {len(prompts)} prompts; at most {at_most} go into a request", param)
    if not prompts:
        raise wrong(param, "a text or a list of token ids")
    return [_prompt_text(prompt, param, takes_media) for prompt in prompts]


def _prompt_text(prompt: object, param: str, takes_media: bool) -> object:
    if not isinstance(prompt, dict):
        return prompt
    if not prompt.get("multimodal_data"):
        return prompt.get("prompt_string")
    if not takes_media:
        raise RequestError(f"'{param}' brings media; here it can only be text", param)
    return prompt


def is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


async def _tokenize(engine: AnyEngine, text: str, *, is_first: bool) -> tuple[int, ...]:
    tokenize = partial(prompt_tokens, engine, text, is_first=is_first)
    if len(text) > _NUM_CHARS_AT_ONCE:  # other streams must not wait for it
        return await in_thread(len(text), tokenize)
    tokens = tokenize()  # the way to a thread and back is longer
    await asyncio.sleep(0)  # for others' turn, since many prompts may come in one request
    return tokens
