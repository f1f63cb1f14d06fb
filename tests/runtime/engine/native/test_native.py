"""llama.cpp itself, with the tiny real model."""

import math
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gguf
import pytest

from runtime.engine.native import (
    Aborted,
    Candidates,
    Context,
    Library,
    Model,
    NoRoom,
    SamplerChain,
    resident_fraction,
    template_names,
    write_messages,
)
from runtime.engine.values.edits import BatchEntry
from runtime.engine.values.facts import FillTokens
from runtime.engine.values.sampling import Sampler, SamplingParams
from runtime.errors import EngineError, ModelError, RequestError
from tests.tiny_models import write_windowed


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


@pytest.fixture(scope="module")
def model(library: Library, stories260k: Path) -> Iterator[Model]:
    model = Model(library, stories260k)
    yield model
    model.close()


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    context = Context(model, n_ctx=256, n_batch=64, num_slots=2, num_threads=1)
    yield context
    context.close()


def entries(tokens: list[int], slot: int = 0, start: int = 0) -> list[BatchEntry]:
    last = len(tokens) - 1
    return [BatchEntry(token, start + place, slot, place == last) for place, token in enumerate(tokens)]


def greedy(model: Model, context: Context, prompt: list[int], count: int, slot: int = 0) -> list[int]:
    sampler = SamplerChain(model, SamplingParams(temperature=0), seed=1)
    tokens, todo = list(prompt), list(prompt)
    for _ in range(count):
        context.decode(entries(todo, slot, len(tokens) - len(todo)))
        todo = [context.sample(sampler, len(todo) - 1)]
        tokens += todo
    sampler.close()
    return tokens[len(prompt) :]


def test_the_model_says_what_it_is(model: Model) -> None:
    facts = model.facts
    assert (facts.architecture, facts.n_vocab, facts.n_embd, facts.add_bos) == ("llama", 512, 64, True)
    assert facts.is_memory_cuttable
    assert facts.bos_token == "<s>"
    assert model.metadata("no.such.key") is None


def test_text_survives_tokenizing_and_back(model: Model) -> None:
    text = "Once upon a time, there was a café."
    tokens = model.tokenize(text, add_special=False, parse_special=False)
    assert b"".join(model.piece(token) for token in tokens).decode().strip() == text
    assert model.detokenize(tokens).strip() == text
    assert model.tokenize(text, add_special=True, parse_special=False) == [1, *tokens]


def test_words_have_the_same_tokens_each_time(library: Library, smollm2: Path) -> None:
    """They are remembered, 16,384 of them; so two models that read in another order know other ones."""
    source = random.Random(2)
    words = ["".join(source.choices("abcdefgé'", k=source.randrange(1, 9))) for _ in range(20_000)]
    texts = [" ".join(words[start : start + 5_000]) for start in range(0, 20_000, 2_500)]
    texts += ["The lamp, the lamp and the lamp's light", "x" * 100, "<|im_start|>user\n", "", "lamp"]
    models = [Model(library, smollm2) for _ in range(2)]

    def tokens(model: Model, text: str) -> list[int]:
        return model.tokenize(text, add_special=True, parse_special=True)

    forwards = [tokens(models[0], text) for text in texts]
    assert forwards == [tokens(models[1], text) for text in reversed(texts)][::-1]
    assert forwards == [tokens(models[0], text) for text in texts]
    for text, found in zip(texts, forwards, strict=True):
        assert models[0].detokenize(found) == text
    for model in models:
        model.close()


LOGS_AFTER_THE_END = """
import gc
from llama_cpp import llama_cpp as api
from runtime.engine.native import Library
library = Library()
del library
gc.collect()
others = [api.llama_log_callback(lambda *said: print("heard by another")) for _ in range(50)]
api.llama_model_load_from_file(b"/no/such.gguf", api.llama_model_default_params())
"""


def test_what_llama_cpp_says_after_its_library_is_gone_reaches_nobody_else() -> None:
    command = [sys.executable, "-c", LOGS_AFTER_THE_END]
    root = Path(__file__).parents[4]
    ended = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (0, ""), ended.stderr


def test_there_are_no_logits_where_none_were_wanted(model: Model, context: Context) -> None:
    context.decode(entries([1, 403, 407]))
    assert len(context.logits(2)) == model.facts.n_vocab
    for index in (0, 3, -4):
        with pytest.raises(EngineError, match="has no logits"):
            context.logits(index)


INFINITE = ((5, 3e38), (5, 3e38))


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(logit_bias=((5, 1e9),), top_k=200),
        SamplingParams(logit_bias=((5, 1e9),), top_k=0, min_p=0, typical_p=0.9, order=(Sampler.TYPICAL_P,)),
        SamplingParams(logit_bias=INFINITE, order=()),
        SamplingParams(logit_bias=INFINITE, top_k=200),
        SamplingParams(logit_bias=INFINITE, order=(Sampler.ADAPTIVE_P,), adaptive_target=1.0),
        SamplingParams(logit_bias=INFINITE, mirostat=1),
        SamplingParams(logit_bias=INFINITE, mirostat=2),
    ],
    ids=lambda params: f"{params.logit_bias[0][1]:g}-{params.top_k}-{params.mirostat}-{len(params.order)}",
)
def test_numbers_beyond_the_usual_choose_what_they_mean(model: Model, context: Context, params: SamplingParams) -> None:
    context.decode(entries([1, 403, 407]))
    chain, candidates = SamplerChain(model, params, seed=3), Candidates(model)
    assert [context.sample(chain, 2) for _ in range(5)] == [5] * 5
    candidates.fill(context.logits(2))
    assert candidates.choose(chain) == 5
    assert candidates.remaining(1) == (1.0, [(5, 1.0)])
    candidates.close()
    chain.close()


@pytest.mark.parametrize("last", [(), (Sampler.ADAPTIVE_P,)], ids=["dist", "adaptive_p"])
def test_a_logit_that_is_no_number_is_never_chosen(model: Model, context: Context, last: tuple[Sampler, ...]) -> None:
    """Infinity less infinity, of the token that stands first."""
    context.decode(entries([1, 403, 407]))
    order = (Sampler.PENALTIES, *last)
    infinite = ((0, 3e38), (0, 3e38))
    chain = SamplerChain(
        model,
        SamplingParams(logit_bias=infinite, frequency_penalty=3e38, order=order, adaptive_target=0.5),
        seed=3,
    )
    for _ in range(3):
        chain.accept(0)
    chosen = {context.sample(chain, 2) for _ in range(20)}
    assert chosen.isdisjoint({0, 511})
    chain.close()


def test_a_text_may_have_more_tokens_than_bytes(library: Library, tmp_path: Path) -> None:
    """A vocabulary without a token for the mark that stands for a space has its three bytes instead."""
    model = Model(library, write_windowed(tmp_path / "model.gguf", window=16))
    for text in (" " * 100, "x y  " * 1000):
        tokens = model.tokenize(text, add_special=False, parse_special=False)
        assert len(tokens) > len(text) + 16
        assert model.detokenize(tokens).replace("\u2581", " ").strip() == text.strip()
    model.close()


def test_a_token_outside_the_vocabulary_is_the_callers_mistake(model: Model) -> None:
    for token in (-1, 512):
        with pytest.raises(RequestError, match="vocabulary of 512"):
            model.piece(token)
        with pytest.raises(RequestError, match="vocabulary of 512"):
            model.detokenize([token])


def test_a_model_in_the_middle_of_a_file_gives_the_same_text(
    library: Library, stories260k: Path, tmp_path: Path
) -> None:
    bundle = tmp_path / "bundle"
    bundle.write_bytes(b"stub".ljust(65536, b"\0") + stories260k.read_bytes() + b"tail" * 1000)
    texts = []
    for path, offset in ((stories260k, 0), (bundle, 65536)):
        model = Model(library, path, offset)
        context = Context(model, n_ctx=128, n_batch=32, num_slots=1, num_threads=1)
        texts.append(greedy(model, context, [1, 403, 407], 20))
        assert str(path.resolve()) in Path("/proc/self/maps").read_text()
        context.close()
        model.close()
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 3


def test_a_file_that_is_missing_or_no_model_says_so(library: Library, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="No such file"):
        Model(library, tmp_path / "missing.gguf")
    (tmp_path / "text.gguf").write_text("hello, this is not a model" * 100)
    with pytest.raises(ModelError, match=r"can't load the model in .*text\.gguf: .+"):
        Model(library, tmp_path / "text.gguf")


def test_slots_do_not_see_each_other(model: Model, context: Context) -> None:
    alone = greedy(model, context, [1, 403, 407], 12, slot=0)
    greedy(model, context, [1, 300, 301, 302], 5, slot=1)
    context.cut(0, 0)
    assert greedy(model, context, [1, 403, 407], 12, slot=0) == alone


def test_cutting_a_slot_goes_back_to_that_point(model: Model, context: Context) -> None:
    prompt = [1, 403, 407]
    whole = greedy(model, context, prompt, 12)
    assert context.cut(0, 2)
    context.decode(entries([407], start=2))
    sampler = SamplerChain(model, SamplingParams(temperature=0), seed=1)
    assert context.sample(sampler, 0) == whole[0]
    sampler.close()


def test_a_slot_can_go_on_from_what_it_shares_with_another(model: Model, context: Context) -> None:
    prompt = [1, 403, 407, 300, 301]
    alone = greedy(model, context, prompt, 8, slot=0)
    context.cut(0, 0)
    context.decode(entries(prompt[:4], slot=0))
    context.share(0, 1, 4)
    context.cut(0, 0)  # what is shared stays as long as one of them has it
    context.decode(entries(prompt[4:], slot=1, start=4))
    sampler = SamplerChain(model, SamplingParams(temperature=0), seed=1)
    assert context.sample(sampler, 0) == alone[0]
    sampler.close()


def test_a_full_cache_is_told_from_a_failure(model: Model, context: Context) -> None:
    for start in range(0, 256, 64):
        context.decode(entries([5] * 64, start=start))
    with pytest.raises(NoRoom):
        context.decode(entries([5], slot=1))
    context.cut(0, 10)
    context.decode(entries([5], slot=1))


def test_a_batch_that_is_too_large_is_refused_before_memory_is_written(context: Context) -> None:
    with pytest.raises(EngineError, match="65 tokens is larger than the 64"):
        context.decode(entries([5] * 65))


def test_a_batch_that_llama_cpp_refuses_is_an_engine_error(context: Context) -> None:
    with pytest.raises(EngineError, match="code -1"):
        context.decode(entries([100_000]))


def test_an_aborted_context_computes_no_more(model: Model, context: Context) -> None:
    context.decode(entries([1]))
    context.abort()
    with pytest.raises(Aborted):
        context.decode(entries([5], start=1))


def test_a_seed_fixes_the_choice_and_temperature_zero_needs_none(model: Model, context: Context) -> None:
    context.decode(entries([1, 403]))

    def choices(params: SamplingParams, seed: int) -> list[int]:
        sampler = SamplerChain(model, params, seed)
        chosen = [context.sample(sampler, 1) for _ in range(8)]
        sampler.close()
        return chosen

    hot = SamplingParams(temperature=2.0, top_k=0, top_p=1.0, min_p=0.0)
    assert choices(hot, 7) == choices(hot, 7)
    assert choices(hot, 7) != choices(hot, 8)
    assert len(set(choices(SamplingParams(temperature=0), 1) + choices(SamplingParams(temperature=0), 2))) == 1
    assert len(set(choices(SamplingParams(temperature=2.0, top_k=1), 3))) == 1


def test_a_banned_token_is_never_chosen(model: Model, context: Context) -> None:
    context.decode(entries([1]))
    free = SamplerChain(model, SamplingParams(temperature=0), 1)
    favourite = context.sample(free, 0)
    banned = SamplerChain(model, SamplingParams(temperature=0), 1, banned=[favourite])
    assert context.sample(banned, 0) != favourite
    free.close()
    banned.close()


def test_repeat_penalty_holds_back_what_it_has_seen(model: Model, context: Context) -> None:
    context.decode(entries([1]))
    params = SamplingParams(temperature=0, repeat_penalty=100.0)
    fresh, warned = SamplerChain(model, params, 1), SamplerChain(model, params, 1)
    favourite = context.sample(fresh, 0)
    warned.accept(favourite)
    assert context.sample(warned, 0) != favourite
    fresh.close()
    warned.close()


def chosen(model: Model, context: Context, params: SamplingParams, seen: list[int] | None = None) -> int:
    """Return the token that a fresh chain chooses from the newest logits, after having seen these tokens."""
    chain = SamplerChain(model, params, seed=3)
    for token in seen or []:
        chain.accept(token)
    token = context.sample(chain, 0)
    chain.close()
    return token


def test_a_bias_forbids_or_forces_a_token(model: Model, context: Context) -> None:
    context.decode(entries([1]))
    favourite = chosen(model, context, SamplingParams(temperature=0))
    assert chosen(model, context, SamplingParams(temperature=0, logit_bias=((favourite, float("-inf")),))) != favourite
    assert chosen(model, context, SamplingParams(temperature=0, logit_bias=((300, 1000.0),))) == 300
    piece = model.piece(300).decode()
    assert model.biases([(300, 1.0), (piece, 2.0)])[0] == (300, 1.0)
    assert all(bias == 2.0 for _token, bias in model.biases([(piece, 2.0)]))


def test_dry_ends_a_repetition(model: Model, context: Context) -> None:
    context.decode(entries([1]))
    favourite = chosen(model, context, SamplingParams(temperature=0))
    # What follows 400 401 402 has been the favourite so far: to go on so would repeat four tokens.
    seen = [400, 401, 402, favourite, 410, 400, 401, 402]
    assert chosen(model, context, SamplingParams(temperature=0), seen) == favourite
    assert chosen(model, context, SamplingParams(temperature=0, dry_multiplier=50.0), seen) != favourite


def test_xtc_leaves_out_the_likeliest(model: Model, context: Context) -> None:
    context.decode(entries([1]))
    favourite = chosen(model, context, SamplingParams(temperature=0))
    always = SamplingParams(temperature=0, xtc_probability=1.0, xtc_threshold=0.001, min_p=0.0)
    assert chosen(model, context, always) != favourite


def test_the_order_of_samplers_matters(model: Model, context: Context) -> None:
    context.decode(entries([1]))
    favourite = chosen(model, context, SamplingParams(temperature=0))
    only_top_k = SamplingParams(temperature=5.0, top_k=1, order=(Sampler.TOP_K,))
    assert chosen(model, context, only_top_k) == favourite
    hot = SamplingParams(temperature=50.0, order=(Sampler.TEMPERATURE,))
    assert len({chosen_with_seed(model, context, hot, seed) for seed in range(8)}) > 3


def chosen_with_seed(model: Model, context: Context, params: SamplingParams, seed: int) -> int:
    chain = SamplerChain(model, params, seed)
    token = context.sample(chain, 0)
    chain.close()
    return token


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(mirostat=1),
        SamplingParams(mirostat=2),
        SamplingParams(top_n_sigma=1.0),
        SamplingParams(dynatemp_range=0.5),
        SamplingParams(typical_p=0.5, min_keep=2),
        SamplingParams(order=(Sampler.TOP_K, Sampler.ADAPTIVE_P), adaptive_target=0.5),
    ],
    ids=["mirostat 1", "mirostat 2", "top-n-sigma", "dynamic temperature", "typical", "adaptive"],
)
def test_every_sampler_chooses_a_token_and_its_seed_fixes_which(
    model: Model, context: Context, params: SamplingParams
) -> None:
    context.decode(entries([1]))
    first = [chosen_with_seed(model, context, params, seed) for seed in range(6)]
    assert first == [chosen_with_seed(model, context, params, seed) for seed in range(6)]
    assert all(0 <= token < 512 for token in first)


@pytest.mark.parametrize("n_ctx", [1, 100, 256, 257])
def test_a_batch_may_be_as_large_as_the_context_that_there_is(model: Model, n_ctx: int) -> None:
    context = Context(model, n_ctx=n_ctx, n_batch=512, num_slots=2, num_threads=1)
    assert context.n_ctx >= n_ctx
    assert context.n_batch == min(context.n_ctx, 512)
    context.close()


@pytest.fixture
def candidates(model: Model) -> Iterator[Candidates]:
    candidates = Candidates(model)
    yield candidates
    candidates.close()


@pytest.mark.parametrize(
    "params", [SamplingParams(), SamplingParams(temperature=3.0, top_k=0), SamplingParams(mirostat=1)]
)
def test_choosing_among_all_candidates_is_what_llama_cpp_does_by_itself(
    model: Model, context: Context, candidates: Candidates, params: SamplingParams
) -> None:
    context.decode(entries([1, 403]))
    ours, theirs = SamplerChain(model, params, 5), SamplerChain(model, params, 5)
    for _ in range(20):
        candidates.fill(context.logits(1))
        assert candidates.choose(ours) == context.sample(theirs, 1)
    ours.close()
    theirs.close()


def test_nothing_is_chosen_that_a_mask_forbids(model: Model, context: Context, candidates: Candidates) -> None:
    context.decode(entries([1, 403]))
    allowed = {300, 301, 409, 511}
    mask = bytes(0xFF if token in allowed else 0 for token in range(512))
    hot = SamplerChain(model, SamplingParams(temperature=50.0, top_k=0, top_p=1.0, min_p=0.0), 1)
    chosen_tokens = set()
    for _ in range(200):
        candidates.fill(context.logits(1), mask)
        chosen_tokens.add(candidates.choose(hot))
    hot.close()
    assert chosen_tokens == allowed
    candidates.fill(context.logits(1), mask)
    assert candidates.likeliest() == max(allowed, key=lambda token: context.logits(1)[token])


def test_mirostat_draws_nothing_where_one_token_is_left(model: Model, context: Context, candidates: Candidates) -> None:
    """As in a llama-server that GCC built; bundler/llamacpp/patches see to it."""
    context.decode(entries([1, 403]))
    # Without eta mirostat remembers nothing but how far its random numbers have come.
    params = SamplingParams(mirostat=2, mirostat_tau=9.0, mirostat_eta=0.0, temperature=50.0)
    fresh, used = SamplerChain(model, params, 5), SamplerChain(model, params, 5)
    candidates.fill(context.logits(1), bytes(0xFF if token == 300 else 0 for token in range(512)))
    assert candidates.choose(used) == 300
    for _ in range(10):
        candidates.fill(context.logits(1))
        expected = candidates.choose(fresh)
        candidates.fill(context.logits(1))
        assert candidates.choose(used) == expected
    fresh.close()
    used.close()


def test_probabilities_are_the_softmax_of_the_logits(context: Context, candidates: Candidates) -> None:
    context.decode(entries([1, 403]))
    logits = list(context.logits(1))
    total = sum(math.exp(logit) for logit in logits)
    best = sorted(range(512), key=lambda token: -logits[token])[:5]
    candidates.fill(context.logits(1))
    probability, likely = candidates.softmax(300, 5)
    assert probability == pytest.approx(math.exp(logits[300]) / total, rel=1e-4)
    assert [token for token, _p in likely] == best
    assert [p for _token, p in likely] == pytest.approx([math.exp(logits[token]) / total for token in best], rel=1e-4)


def test_what_the_samplers_leave_is_told_best_first(model: Model, context: Context, candidates: Candidates) -> None:
    context.decode(entries([1, 403]))
    chain = SamplerChain(model, SamplingParams(top_k=4, top_p=1.0, min_p=0.0), 1)
    candidates.fill(context.logits(1))
    token = candidates.choose(chain)
    chain.close()
    probability, likely = candidates.remaining(10)
    assert len(likely) == 4
    assert sum(p for _token, p in likely) == pytest.approx(1, abs=1e-5)
    assert [p for _token, p in likely] == sorted((p for _token, p in likely), reverse=True)
    assert (token, probability) in likely
    assert len(candidates.remaining(2)[1]) == 2


def test_a_file_just_written_is_resident(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 300_000)
    assert resident_fraction(path, 70_000, 200_000) == 1.0


def test_a_hole_that_nobody_read_is_not_resident(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.truncate(1 << 24)
    assert resident_fraction(path, 0, 1 << 24) < 0.5


def with_metadata(source: Path, target: Path, **added: int) -> Path:
    """Write a GGUF again with further metadata; the `gguf` package is the oracle."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for each in reader.fields.values():
        if not each.name.startswith("GGUF.") and each.name != "general.architecture":
            kind = each.types[0]
            inner = each.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(each.name, each.contents(), kind, sub_type=inner)
    for name, value in added.items():
        writer.add_uint32(f"tokenizer.ggml.{name}", value)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return target


@pytest.mark.parametrize(
    ("added", "expected"),
    [
        ({}, None),
        ({"fim_pre_token_id": 259, "fim_suf_token_id": 260}, None),
        (
            {"fim_pre_token_id": 259, "fim_suf_token_id": 260, "fim_mid_token_id": 261, "fim_sep_token_id": 262},
            FillTokens(259, 260, 261, repository=None, file=262),
        ),
    ],
)
def test_a_model_names_its_marks_for_filling_gaps(
    library: Library, stories260k: Path, tmp_path: Path, added: dict[str, int], expected: FillTokens | None
) -> None:
    model = Model(library, with_metadata(stories260k, tmp_path / "model.gguf", **added))
    assert model.fill_tokens == expected
    model.close()


def test_llama_cpps_own_chat_templates_go_by_their_names(library: Library) -> None:
    names = template_names(library)
    assert {"chatml", "llama2", "llama3", "command-r", "gemma"} <= set(names)
    chat = [("system", "Be brief."), ("user", "Grüße?"), ("assistant", "Ja."), ("user", "\ud83d \U0001f600")]
    for name in names:
        written = write_messages(library, name, chat, adds_generation_prompt=True)
        assert "Grüße?" in written
        assert "\ud83d \U0001f600" in written
        assert written.startswith(write_messages(library, name, chat[:1], adds_generation_prompt=False)[:1])


def test_llama_3s_template_is_llama_cpps(library: Library) -> None:
    written = write_messages(library, "llama3", [("user", "Hi")], adds_generation_prompt=True)
    assert written == (
        "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    assert written.startswith(write_messages(library, "llama3", [("user", "Hi")], adds_generation_prompt=False) + "<|")


def test_a_template_that_cannot_write_a_chat_says_so(library: Library) -> None:
    with pytest.raises(RequestError, match="NUL character") as refused:
        write_messages(library, "llama3", [("user", "a\0b")], adds_generation_prompt=True)
    assert refused.value.param == "messages"
    with pytest.raises(EngineError, match="no chat template 'nobody'"):
        write_messages(library, "nobody", [("user", "a")], adds_generation_prompt=True)
