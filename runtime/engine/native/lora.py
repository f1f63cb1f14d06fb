"""LoRA adapters: small changes to a model's weights, applied while it computes."""

import ctypes
import os
from pathlib import Path

from runtime.engine.native.model import Model
from runtime.errors import ModelError

_SEEK_SET = 0


class LoraAdapter:
    """An adapter for one model, which owns it and frees it with itself."""

    def __init__(self, model: Model, path: Path, offset: int = 0) -> None:
        """Load the GGUF that begins at `offset` (bytes) of `path`. Raises ModelError when it doesn't fit the model."""
        library = model.library
        file = library.libc.fopen(os.fsencode(path), b"rb")
        if not file:
            raise ModelError(f"can't open {path}: {os.strerror(ctypes.get_errno())}")
        library.forget_errors()
        library.libc.fseeko(file, offset, _SEEK_SET)
        self.handle = library.api.llama_adapter_lora_init_from_file_ptr(model.handle, file)
        library.libc.fclose(file)
        if not self.handle:
            raise ModelError(f"can't use the LoRA adapter in {path} with this model: {library.why()}")
