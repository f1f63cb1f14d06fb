"""LoRA adapters: small changes to a model's weights, applied while it computes."""

import ctypes
from pathlib import Path

from runtime.engine.native.gguf_file import opened_gguf
from runtime.engine.native.model import Model
from runtime.errors import ModelError


class LoraAdapter:
    """An adapter for one model, which owns it and frees it with itself."""

    def __init__(self, model: Model, path: Path, offset: int = 0) -> None:
        """Load the GGUF that begins at `offset` (bytes) of `path`. Raises ModelError when it doesn't fit the model."""
        library = model.library
        self._api = api = library.api
        with opened_gguf(path, offset) as file:
            library.forget_errors()
            self.handle = api.llama_adapter_lora_init_from_file_ptr(model.handle, file)
        if not self.handle:
            raise ModelError(f"can't use the LoRA adapter in {path} with this model: {library.why()}")
        if api.llama_adapter_get_alora_n_invocation_tokens(self.handle) > 0:
            raise ModelError(
                f"the LoRA adapter in {path} is one that waits for certain words (aLoRA), which can't be applied here; "
                "take an ordinary one"
            )
        self.task_name = self._metadata("adapter.lora.task_name")
        self.prompt_prefix = self._metadata("adapter.lora.prompt_prefix")

    def _metadata(self, key: str) -> str:
        buffer = ctypes.create_string_buffer(4096)
        length = self._api.llama_adapter_meta_val_str(self.handle, key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else ""
