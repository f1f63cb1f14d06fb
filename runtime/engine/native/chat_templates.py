"""llama.cpp's own chat templates: programs in C++ that go by names and write nothing but roles and texts."""

import ctypes
from collections.abc import Sequence

from runtime.engine.native.library import Library
from runtime.errors import EngineError, RequestError


def template_names(library: Library) -> tuple[str, ...]:
    """Return the names of llama.cpp's templates."""
    api = library.api
    count = api.llama_chat_builtin_templates(None, 0)
    names = (ctypes.c_char_p * count)()
    api.llama_chat_builtin_templates(names, count)
    return tuple(name.decode() for name in names if name)


def write_messages(
    library: Library, template: str, messages: Sequence[tuple[str, str]], *, adds_generation_prompt: bool
) -> str:
    """Return the prompt that a template of that name makes of (role, text) pairs. May be called from any thread.

    Raises RequestError for a text that C can't hold.
    """
    api = library.api
    chat = (api.llama_chat_message * len(messages))()
    for entry, (role, text) in zip(chat, messages, strict=True):
        if "\0" in text:
            raise RequestError("the messages have a NUL character, which this chat template can't write", "messages")
        entry.role, entry.content = role.encode(), text.encode("utf-8", "surrogatepass")
    name = template.encode()
    size = api.llama_chat_apply_template(name, chat, len(chat), adds_generation_prompt, None, 0)
    if size < 0:
        raise EngineError(f"llama.cpp has no chat template {template!r}")
    buffer = ctypes.create_string_buffer(size + 1)
    api.llama_chat_apply_template(name, chat, len(chat), adds_generation_prompt, buffer, size + 1)
    return buffer.raw[:size].decode("utf-8", "surrogatepass")
