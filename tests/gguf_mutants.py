"""Models that nobody would write: GGUF files made from good ones, with something in them changed.

A mutant is known by its seed and number. `mutants.py` runs them.
"""

import random
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
STRING, ARRAY = 8, 9
ALIGNMENT = 32
WHOLE = (0, 1, 2, 3, 5, 7, 31, 127, 255, 256, 512, 513, 65535, 5 * 10**7, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1)
REAL = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, -1e38, float("inf"), float("-inf"), float("nan"))
NAMES = (
    *(b"", b"\x00", b"a", b"llama", b"gpt2", b"bert", b"t5", b"rwkv", b"plamo2", b"none", b"no_vocab", b"default"),
    *(b"qwen2", b"llama-bpe", b"mistral", b"smollm", b"\x1b]0;pwned\x07\x1b[2J", b"\xff\xfe\xfa", b"{{", b"x" * 70000),
    *(b"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", b"{{ 'a' * 9999999999 }}"),
)
ARCHITECTURES = (
    *(
        b"llama",
        b"qwen2",
        b"qwen3",
        b"qwen2moe",
        b"qwen3moe",
        b"gemma",
        b"gemma2",
        b"gemma3",
        b"phi2",
        b"phi3",
        b"bert",
    ),
    *(
        b"nomic-bert",
        b"nomic-bert-moe",
        b"mamba",
        b"mamba2",
        b"rwkv6",
        b"falcon",
        b"gpt2",
        b"gptneox",
        b"bloom",
        b"mpt",
    ),
    *(b"stablelm", b"starcoder2", b"command-r", b"olmo2", b"olmoe", b"deepseek", b"deepseek2", b"granite", b"jamba"),
    *(
        b"granitemoe",
        b"minicpm",
        b"gpt-oss",
        b"lfm2",
        b"t5",
        b"clip",
        b"plamo",
        b"chatglm",
        b"glm4moe",
        b"llama4",
        b"dbrx",
    ),
)
KEYS = (
    *("expert_count", "expert_used_count", "expert_group_count", "expert_group_used_count", "expert_shared_count"),
    *("attention.sliding_window", "attention.key_length", "attention.value_length", "attention.kv_lora_rank"),
    *("pooling_type", "rope.dimension_count", "rope.scaling.factor", "rope.freq_base", "vocab_size", "attention.scale"),
    *("full_attention_interval", "leading_dense_block_count", "attention.max_alibi_bias", "attention.clamp_kqv"),
    *("expert_weights_scale", "logit_scale", "final_logit_softcapping", "attn_logit_softcapping", "ssm.state_size"),
    *("expert_feed_forward_length", "rope.scaling.original_context_length", "rope.scaling.yarn_log_multiplier"),
    *(
        "attention.layer_norm_epsilon",
        "attention.layer_norm_rms_epsilon",
        "use_parallel_residual",
        "n_layer_dense_lead",
    ),
)
TOKENIZER_KEYS = (
    *("bos_token_id", "eos_token_id", "unknown_token_id", "padding_token_id", "seperator_token_id", "mask_token_id"),
    *("eot_token_id", "eom_token_id", "prefix_token_id", "middle_token_id", "suffix_token_id", "add_bos_token"),
    *("add_eos_token", "add_sep_token", "add_space_prefix", "remove_extra_whitespaces", "token_type_count"),
)


@dataclass
class Value:
    """A metadata value: of an array, `kind` is its elements'."""

    kind: int
    data: Any
    is_array: bool = False


@dataclass
class Tensor:
    name: bytes
    dims: list[int]
    kind: int
    offset: int


@dataclass
class Model:
    """A GGUF taken apart."""

    entries: list[tuple[bytes, Value]]
    tensors: list[Tensor]
    data: bytes
    magic: bytes = b"GGUF"
    version: int = 3
    extra_entries: int = 0  # more than there are, as the header says
    extra_tensors: int = 0
    notes: list[str] = field(default_factory=list)

    def index(self, key: bytes) -> int | None:
        return next((index for index, (name, _value) in enumerate(self.entries) if name == key), None)


class _Cursor:
    def __init__(self, data: bytes) -> None:
        self.data, self.position = data, 0

    def number(self, layout: str) -> Any:
        (value,) = struct.unpack_from(layout, self.data, self.position)
        self.position += struct.calcsize(layout)
        return value

    def text(self) -> bytes:
        length = self.number("<Q")
        self.position += length
        return self.data[self.position - length : self.position]

    def value(self, kind: int) -> Any:
        return self.text() if kind == STRING else self.number(SCALARS[kind])


def parse(data: bytes) -> Model:
    cursor = _Cursor(data)
    cursor.position = 8
    num_tensors, num_entries = cursor.number("<Q"), cursor.number("<Q")
    entries = []
    for _ in range(num_entries):
        key, kind = cursor.text(), cursor.number("<I")
        if kind == ARRAY:
            element, count = cursor.number("<I"), cursor.number("<Q")
            entries.append((key, Value(element, [cursor.value(element) for _ in range(count)], True)))
        else:
            entries.append((key, Value(kind, cursor.value(kind))))
    tensors = []
    for _ in range(num_tensors):
        name, num_dims = cursor.text(), cursor.number("<I")
        dims = [cursor.number("<Q") for _ in range(num_dims)]
        tensors.append(Tensor(name, dims, cursor.number("<I"), cursor.number("<Q")))
    return Model(entries, tensors, data[cursor.position + -cursor.position % ALIGNMENT :])


def _number(kind: int, value: Any) -> bytes:
    """Pack a number, cut to what its type holds."""
    layout = SCALARS[kind]
    if layout in ("<f", "<d"):
        return struct.pack(layout, value)
    bits = 8 * struct.calcsize(layout)
    whole = 0 if value != value or value in (float("inf"), float("-inf")) else int(value)
    return (whole & (1 << bits) - 1).to_bytes(bits // 8, "little")


def _text(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def _scalar(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return _text(value if isinstance(value, bytes) else str(value).encode())
    return _number(kind, value if isinstance(value, (int, float)) else len(value))


def _value(value: Value) -> bytes:
    if value.is_array:
        head = struct.pack("<IIQ", ARRAY, value.kind, len(value.data))
        return head + b"".join(_scalar(value.kind, element) for element in value.data)
    return struct.pack("<I", value.kind) + _scalar(value.kind, value.data)


def _u64(number: int) -> int:
    return number & 2**64 - 1


def write(model: Model) -> bytes:
    head = model.magic + struct.pack(
        "<IQQ",
        model.version & 2**32 - 1,
        _u64(len(model.tensors) + model.extra_tensors),
        _u64(len(model.entries) + model.extra_entries),
    )
    parts = [head, *(_text(key) + _value(value) for key, value in model.entries)]
    for tensor in model.tensors:
        dims = b"".join(struct.pack("<Q", _u64(size)) for size in tensor.dims)
        parts.append(_text(tensor.name) + struct.pack("<I", len(tensor.dims)) + dims)
        parts.append(struct.pack("<IQ", tensor.kind & 2**32 - 1, _u64(tensor.offset)))
    whole = b"".join(parts)
    return whole + bytes(-len(whole) % ALIGNMENT) + model.data


# -- what is changed ------------------------------------------------------------------------------------------------

Mutation = Callable[[Model, random.Random], str]


def _some_entry(model: Model, chance: random.Random, *, array: bool | None = None) -> int:
    found = [i for i, (_key, value) in enumerate(model.entries) if array is None or value.is_array is array]
    return chance.choice(found or range(len(model.entries)))


def change_number(model: Model, chance: random.Random) -> str:
    numbers = [i for i, (_k, value) in enumerate(model.entries) if not value.is_array and value.kind != STRING]
    if not numbers:
        return "nothing"
    index = chance.choice(numbers)
    key, value = model.entries[index]
    new = chance.choice(REAL if value.kind in (6, 12) else WHOLE)
    model.entries[index] = (key, replace(value, data=new))
    return f"{key!r} = {new}"


def change_type(model: Model, chance: random.Random) -> str:
    index = _some_entry(model, chance, array=False)
    key, value = model.entries[index]
    kind = chance.choice([*SCALARS, STRING])
    is_array = chance.random() < 0.3
    model.entries[index] = (key, Value(kind, [value.data] if is_array else value.data, is_array))
    return f"{key!r} of type {kind}{' in an array' if is_array else ''}"


def change_text(model: Model, chance: random.Random) -> str:
    texts = [i for i, (_key, value) in enumerate(model.entries) if not value.is_array and value.kind == STRING]
    if not texts:
        return "nothing"
    index = chance.choice(texts)
    key, value = model.entries[index]
    new = chance.choice(NAMES)
    model.entries[index] = (key, replace(value, data=new))
    return f"{key!r} = {new[:40]!r}"


def drop_entry(model: Model, chance: random.Random) -> str:
    return f"without {model.entries.pop(_some_entry(model, chance))[0]!r}"


def double_entry(model: Model, chance: random.Random) -> str:
    entry = model.entries[_some_entry(model, chance)]
    model.entries.append(entry)
    return f"{entry[0]!r} twice"


def add_entry(model: Model, chance: random.Random) -> str:
    """Give a key that the model lacks, or another value to one that it has."""
    index = model.index(b"general.architecture")
    prefix = model.entries[index][1].data if index is not None else b"llama"
    if chance.random() < 0.7:
        key = prefix + b"." + chance.choice(KEYS).encode() if isinstance(prefix, bytes) else b"x"
    else:
        key = b"tokenizer.ggml." + chance.choice(TOKENIZER_KEYS).encode()
    kind = chance.choice((4, 4, 6, 7, 5))
    value = Value(kind, chance.choice(REAL if kind == 6 else WHOLE))
    model.entries = [entry for entry in model.entries if entry[0] != key] + [(key, value)]
    return f"{key!r} = {value.data} of type {kind}"


def become(model: Model, chance: random.Random) -> str:
    """Take another architecture's name, in the keys as well."""
    index = model.index(b"general.architecture")
    if index is None or not isinstance(model.entries[index][1].data, bytes):
        return "nothing"
    old, new = model.entries[index][1].data, chance.choice(ARCHITECTURES)
    model.entries = [(new + key[len(old) :] if key.startswith(old + b".") else key, v) for key, v in model.entries]
    model.entries[index] = (b"general.architecture", Value(STRING, new))
    return f"a {new!r}"


def change_element(model: Model, chance: random.Random) -> str:
    index = _some_entry(model, chance, array=True)
    key, value = model.entries[index]
    if not value.is_array or not value.data:
        return "nothing"
    data = list(value.data)
    for _ in range(chance.choice((1, 1, 3, len(data)))):
        choices = NAMES[:-3] if value.kind == STRING else REAL if value.kind in (6, 12) else WHOLE
        data[chance.randrange(len(data))] = chance.choice(choices)
    model.entries[index] = (key, replace(value, data=data))
    return f"elements of {key!r}"


def change_length(model: Model, chance: random.Random) -> str:
    index = _some_entry(model, chance, array=True)
    key, value = model.entries[index]
    if not value.is_array:
        return "nothing"
    length = chance.choice((0, 1, 3, len(value.data) - 1, len(value.data) + 1, 2 * len(value.data)))
    data = [value.data[i % len(value.data)] for i in range(max(length, 0))] if value.data else []
    model.entries[index] = (key, replace(value, data=data))
    return f"{key!r} has {length}"


def equal_tokens(model: Model, chance: random.Random) -> str:
    index = model.index(b"tokenizer.ggml.tokens")
    if index is None or not model.entries[index][1].is_array or len(model.entries[index][1].data) < 2:
        return "nothing"
    key, value = model.entries[index]
    data = list(value.data)
    source, target = chance.sample(range(len(data)), 2)
    data[target] = data[source]
    model.entries[index] = (key, replace(value, data=data))
    return f"tokens {source} and {target} alike"


def without_bytes(model: Model, chance: random.Random) -> str:
    """Take single bytes, some or all, out of the vocabulary."""
    index = model.index(b"tokenizer.ggml.tokens")
    if index is None or not model.entries[index][1].is_array:
        return "nothing"
    key, value = model.entries[index]
    share = chance.choice((1.0, 1.0, 0.1))
    gone = [isinstance(t, bytes) and t.startswith(b"<0x") and chance.random() < share for t in value.data]
    data = [b"gone %d" % i if is_gone else t for i, (t, is_gone) in enumerate(zip(value.data, gone, strict=True))]
    model.entries[index] = (key, replace(value, data=data))
    return f"without {sum(gone)} bytes"


def no_vocabulary(model: Model, chance: random.Random) -> str:
    kind = chance.choice((b"bert", b"llama", b"gpt2", b"t5", b"rwkv", b"none"))
    kept = chance.choice((b"", b"tokenizer.ggml.tokens", b"tokenizer.ggml.scores", b"tokenizer.ggml.token_type"))
    model.entries = [e for e in model.entries if not e[0].startswith(b"tokenizer.") or e[0] == kept]
    model.entries.append((b"tokenizer.ggml.model", Value(STRING, kind)))
    return f"vocabulary {kind!r} with {kept!r} only"


def change_dims(model: Model, chance: random.Random) -> str:
    if not model.tensors:
        return "nothing"
    tensor = chance.choice(model.tensors)
    kind = chance.randrange(3)
    if kind == 0 or not tensor.dims:
        tensor.dims = [chance.choice(WHOLE) for _ in range(chance.randrange(6))]
    elif kind == 1:
        tensor.dims[chance.randrange(len(tensor.dims))] = chance.choice(WHOLE)
    else:
        chance.shuffle(tensor.dims)
    return f"{tensor.name!r} of {tensor.dims}"


def change_tensor_type(model: Model, chance: random.Random) -> str:
    """Give tensors another type, one or all that end alike."""
    if not model.tensors:
        return "nothing"
    chosen = chance.choice(model.tensors)
    kind = chance.choice([*range(43), 26, 27, 10, 42, 255, 2**31, 2**32 - 1])
    ending = chosen.name.rpartition(b"blk.")[2].partition(b".")[2]
    is_one = chance.random() < 0.6
    for tensor in model.tensors:
        if tensor is chosen or (not is_one and ending and tensor.name.endswith(ending)):
            tensor.kind = kind
    return f"{chosen.name!r} of type {kind}"


def change_offset(model: Model, chance: random.Random) -> str:
    if not model.tensors:
        return "nothing"
    tensor = chance.choice(model.tensors)
    tensor.offset = chance.choice(
        [*WHOLE, tensor.offset + 1, tensor.offset + 32, len(model.data), len(model.data) - 32]
    )
    return f"{tensor.name!r} at {tensor.offset}"


def change_tensor_names(model: Model, chance: random.Random) -> str:
    if len(model.tensors) < 2:
        return "nothing"
    first, second = chance.sample(model.tensors, 2)
    kind = chance.randrange(4)
    if kind == 0:
        model.tensors.remove(first)
    elif kind == 1:
        first.name = second.name
    elif kind == 2:
        first.name, second.name = second.name, first.name
    else:
        first.name = chance.choice((b"", b"x" * 70, b"blk.999999999999.attn_q.weight", b"\xff", b"output.weight"))
    return f"{first.name!r} for {second.name!r} ({kind})"


def change_head(model: Model, chance: random.Random) -> str:
    kind = chance.randrange(4)
    if kind == 0:
        model.version = chance.choice((0, 1, 2, 4, 0x3000000, 2**32 - 1))
    elif kind == 1:
        model.extra_entries = chance.choice((-1, 1, 1000, 2**31, 2**62, 2**63))
    elif kind == 2:
        model.extra_tensors = chance.choice((-1, 1, 1000, 2**31, 2**62, 2**63))
    else:
        model.magic = chance.choice((b"GGML", b"FUGG", b"\0\0\0\0"))
    return f"head {kind}"


def change_weights(model: Model, chance: random.Random) -> str:
    """Fill a stretch of the tensors' data with NaN, infinity, huge numbers, noise or nothing."""
    data = bytearray(model.data)
    start = chance.randrange(max(len(data) // 4, 1)) * 4
    length = min(chance.choice((4, 4096, len(data))), len(data) - start) // 4 * 4
    kind = chance.choice(("nan", "inf", "huge", "noise", "cut"))
    if kind == "cut":
        del data[start:]
    elif kind == "noise":
        data[start : start + length] = chance.randbytes(length)
    else:
        word = {"nan": float("nan"), "inf": float("inf"), "huge": 3e38}[kind]
        data[start : start + length] = struct.pack("<f", word) * (length // 4)
    model.data = bytes(data)
    return f"{kind} over {length} bytes at {start}"


MUTATIONS: tuple[Mutation, ...] = (
    *(change_number, change_number, change_number, change_type, change_text, change_text, drop_entry, double_entry),
    *(add_entry, add_entry, add_entry, become, become, change_element, change_element, change_length, equal_tokens),
    *(without_bytes, no_vocabulary, change_dims, change_tensor_type, change_tensor_type, change_offset),
    *(change_tensor_names, change_head, change_weights),
)


def mutant(bases: Sequence[bytes], seed: int, number: int) -> tuple[bytes, str]:
    """Return a mutant's bytes and what was changed."""
    chance = random.Random(f"{seed} {number}")
    which = chance.randrange(len(bases))
    model = parse(bases[which])
    notes = [f"base {which}"]
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        notes.append(chance.choice(MUTATIONS)(model, chance))
    data = write(model)
    if chance.random() < 0.05:
        flipped = bytearray(data)
        for _ in range(chance.choice((1, 4, 64))):
            flipped[chance.randrange(min(len(flipped), 20000))] = chance.randrange(256)
        data = bytes(flipped)
        notes.append("bytes flipped")
    return data, "; ".join(notes)
