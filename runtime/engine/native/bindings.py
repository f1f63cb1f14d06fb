"""What llama-cpp-python's bindings leave out: functions of llama.cpp's libraries and of libc, with their types.

Each library is loaded by SONAME: the loader knows it by that already, and a second copy of ggml would have a registry
of backends of its own.
"""

import ctypes
from functools import cache
from typing import Any


class GgufInitParams(ctypes.Structure):
    """`struct gguf_init_params` of gguf.h."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


class ThreadPoolParams(ctypes.Structure):
    """`struct ggml_threadpool_params` of ggml.h."""

    _fields_ = (
        ("cpumask", ctypes.c_bool * 512),  # GGML_MAX_N_THREADS
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    )


def _declare(function: Any, result: Any, *arguments: Any) -> None:
    function.restype, function.argtypes = result, arguments


@cache
def libc() -> Any:
    found = ctypes.CDLL(None, use_errno=True)
    _declare(found.fopen, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)
    _declare(found.fseeko, ctypes.c_int, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int)
    _declare(found.fclose, ctypes.c_int, ctypes.c_void_p)
    _declare(found.mmap, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_int64)
    _declare(found.munmap, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
    if hasattr(found, "mallopt"):  # glibc's
        _declare(found.mallopt, ctypes.c_int, ctypes.c_int, ctypes.c_int)
    _declare(found.mincore, ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
    return found


@cache
def ggml() -> Any:
    """The registry of backends. llama.cpp's own bindings must be loaded before."""
    found = ctypes.CDLL("libggml.so.0")
    _declare(found.ggml_backend_load_all_from_path, None, ctypes.c_char_p)
    _declare(found.ggml_backend_dev_by_type, ctypes.c_void_p, ctypes.c_int)
    _declare(found.ggml_backend_dev_backend_reg, ctypes.c_void_p, ctypes.c_void_p)
    _declare(found.ggml_backend_reg_get_proc_address, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
    return found


@cache
def ggml_base() -> Any:
    """The reader of GGUF headers; the functions that return a key's value are typed by whoever calls them."""
    found = ctypes.CDLL("libggml-base.so.0")
    _declare(found.gguf_init_from_file_ptr, ctypes.c_void_p, ctypes.c_void_p, GgufInitParams)
    _declare(found.gguf_find_key, ctypes.c_int64, ctypes.c_void_p, ctypes.c_char_p)
    _declare(found.gguf_find_tensor, ctypes.c_int64, ctypes.c_void_p, ctypes.c_char_p)
    _declare(found.gguf_free, None, ctypes.c_void_p)
    return found


@cache
def attach_threadpool() -> Any:
    function = ctypes.CDLL("libllama.so.0").llama_attach_threadpool
    _declare(function, None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
    return function


@cache
def picture_info() -> Any:
    """stb_image, with which mtmd decodes pictures, also reads a picture's size alone."""
    return ctypes.CDLL("libmtmd.so.0").stbi_info_from_memory
