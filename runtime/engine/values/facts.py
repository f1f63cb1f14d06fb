"""What a loaded model says of itself, and what its engine adds."""

from dataclasses import dataclass
from enum import Enum

from runtime.engine.values.media import MediaKind

# Of models whose layers mostly look back a short way only, the fewest layers that keep everything are one in six.
_FULL_LAYERS_OF_WINDOWED = 6


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


@dataclass(frozen=True, slots=True)
class ControlToken:
    """The name of a token that is no text, and whether it takes the white space beside it."""

    name: str
    strips_left: bool = False
    strips_right: bool = False


@dataclass(frozen=True, slots=True)
class LoraInfo:
    """A LoRA adapter by the name of its file, and its scale where a request names none."""

    name: str
    scale: float
    task_name: str
    prompt_prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo(ModelFacts):
    """The model as an engine serves it: `num_slots` sequences at once, none longer than `n_ctx` tokens."""

    n_ctx: int
    num_slots: int
    media_kinds: frozenset[MediaKind] = frozenset()  # what it reads beside text
    speculation: str = "none"  # how tokens are guessed ahead, by llama-server's name for it
    is_causal: bool = True  # each token looks back only; a model whose tokens look both ways can't generate


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """What of a GGUF's header decides how much memory a context takes.

    `num_kv_elements` are the elements of keys and values that one token adds, over all layers.
    """

    weights_bytes: int
    n_ctx_train: int
    n_vocab: int
    n_embd: int
    n_ff: int
    num_kv_elements: int


def num_kv_elements(
    num_kv_heads: list[int], key_length: int, value_length: int, *, n_latent: int = 0, is_windowed: bool = False
) -> int:
    """Return the elements of a token's keys and values; one number of heads for each layer.

    With `n_latent`, a layer keeps so many for all its heads together (multi-head latent attention). Of layers with a
    window (`is_windowed`) only those that keep the whole context are counted, and rather too few.
    """
    layers = [n_latent if n_latent else heads * (key_length + value_length) for heads in num_kv_heads if heads]
    return sum(layers) // _FULL_LAYERS_OF_WINDOWED if is_windowed else sum(layers)
