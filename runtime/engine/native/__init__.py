"""llama.cpp through ctypes: handles with an owner, filled batches, typed errors.

The only package that imports llama_cpp or ctypes. It knows nothing of requests, text or policy.

Ownership: a `Model` owns the mapped weights and outlives every `Context` and `SamplerChain` made from it. A `Context`
and its samplers belong to one thread, the engine's; the vocabulary functions of `Model` only read and may be called
from any thread. Every object is closed by who made it, in reverse order.
"""

from runtime.engine.native.candidates import Candidates
from runtime.engine.native.chat_templates import template_names, write_messages
from runtime.engine.native.context import Aborted, Context, NoRoom
from runtime.engine.native.dry import DryStages
from runtime.engine.native.embedding import EmbeddingContext
from runtime.engine.native.header import read_shape
from runtime.engine.native.library import Library, resident_fraction
from runtime.engine.native.lora import LoraAdapter
from runtime.engine.native.model import Model
from runtime.engine.native.projector import Projector
from runtime.engine.native.sampler import SamplerChain

__all__ = [
    "Aborted",
    "Candidates",
    "Context",
    "DryStages",
    "EmbeddingContext",
    "Library",
    "LoraAdapter",
    "Model",
    "NoRoom",
    "Projector",
    "SamplerChain",
    "read_shape",
    "resident_fraction",
    "template_names",
    "write_messages",
]
