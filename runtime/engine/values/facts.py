"""What a loaded model says of itself, and what its engine adds."""

from dataclasses import dataclass
from enum import Enum

from runtime.engine.values.media import MediaKind


class Pooling(Enum):
    """How the vectors of a text's tokens become the text's; numbered as in llama.h."""

    NONE = 0
    MEAN = 1
    CLS = 2  # the first token's
    LAST = 3
    RANK = 4  # through the model's head for ranking


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Counts in tokens and parameters, size in bytes; `n_ctx_train` is the longest text the model was trained for."""

    name: str
    description: str
    architecture: str
    n_ctx_train: int
    n_vocab: int
    n_embd: int
    n_params: int
    size_bytes: int
    chat_template: str | None
    bos_token: str
    eos_token: str
    add_bos: bool
    vocab_type: int
    is_memory_cuttable: bool  # tokens can be removed from the end of a sequence's memory
    quantization: str = ""  # as files are named by it: "Q4_K_M"
    pooling: Pooling | None = None  # None where the model wasn't made for vectors
    rerank_template: str | None = None
    is_template_named: bool = False  # `chat_template` is the name of one of llama.cpp's own


@dataclass(frozen=True, slots=True)
class FillTokens:
    """What a model was trained to see around a gap it is to fill; repository and file marks where it has them."""

    prefix: int
    suffix: int
    middle: int
    repository: int | None = None
    file: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo(ModelFacts):
    """The model as an engine serves it: `num_slots` sequences at once, none longer than `n_ctx` tokens."""

    n_ctx: int
    num_slots: int
    media_kinds: frozenset[MediaKind] = frozenset()  # what it reads beside text
    is_causal: bool = True  # each token looks back only; a model whose tokens look both ways can't generate
