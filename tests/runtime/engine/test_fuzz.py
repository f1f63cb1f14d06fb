"""The engine under requests of every kind at once: samplers, grammars, probabilities, drafts, adapters, cancels.

Each case is a handful of requests that run together. What each of them hears must hold to its grammar, tell sound
probabilities, and be what it hears alone, on an engine that neither guesses ahead nor knows the others. `-m fuzz` runs
20,000 cases, the default run a few; `python tests/sanitized.py -m fuzz tests/runtime/engine/test_fuzz.py` looks for
what else they do to memory.
"""

import json
import math
import queue
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.engine.adapters import Adapter, Adapters
from runtime.engine.engine import Engine
from runtime.engine.native import Library, LoraAdapter, Model
from runtime.engine.values.embedding import EmbeddingJob
from runtime.engine.values.events import Event, Failed, Finished, FinishReason, Progress, TextDelta, TokenProbs
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.engine.values.params import EngineParams
from runtime.engine.values.request import GenerationRequest
from runtime.engine.values.sampling import Sampler, SamplingParams
from tests.asking import request_for
from tests.tiny_models import write_adapter

FEW = settings(max_examples=60, suppress_health_check=list(HealthCheck))
MANY = settings(max_examples=20_000, suppress_health_check=list(HealthCheck))
TIMEOUT_SECONDS = 120

# -- what is asked ----------------------------------------------------------------------------------------------------

LARGEST = 3.4e38  # that a 32-bit float holds, and that a request may say


def number(*usual: float, low: float = -LARGEST, high: float = LARGEST) -> st.SearchStrategy[float]:
    """One that people send, mostly; now and then any."""
    any_number = st.floats(low, high, allow_nan=False) | st.sampled_from([low, high, max(low, 1e-45), max(low, 1e-30)])
    few = st.sampled_from(usual)
    return few | few | few | few | few | few | few | any_number


COMMON = st.sampled_from([*range(6), 13, 35, 261, 320, 400, 432, 450, 511])
PAIRS = st.tuples(COMMON | st.sampled_from(["the", " a", "<s>", "ü"]), number(-100.0, -1.0, 2.0, 100.0, -math.inf))
ORDERS = st.permutations(list(Sampler)).flatmap(lambda order: st.integers(0, 10).map(lambda n: tuple(order[:n])))
SAMPLING: dict[str, st.SearchStrategy[Any]] = {
    "temperature": number(0.0, 0.5, 0.8, 1.5, 5.0),
    "top_k": st.sampled_from([0, 1, 2, 5, 40, 128, 129, 200, 511, 512, 2**31 - 1, -(2**31 - 1)]),
    "top_p": number(0.1, 0.9, 1.0, 0.0),
    "min_p": number(0.0, 0.05, 0.5, 1.0),
    "typical_p": number(1.0, 0.5, 0.9),
    "repeat_penalty": number(1.0, 1.1, 2.0, low=0.01),
    "repeat_last_n": st.sampled_from([0, -1, 1, 5, 64, 2**20]),
    "presence_penalty": number(0.0, 0.5, -2.0),
    "frequency_penalty": number(0.0, 0.5, -2.0),
    "top_n_sigma": number(-1.0, 0.0, 1.0, 2.0),
    "xtc_probability": number(0.0, 0.5, 1.0),
    "xtc_threshold": number(0.0, 0.05, 0.1, 0.5),
    "dynatemp_range": number(0.0, 0.5, 5.0),
    "dynatemp_exponent": number(1.0, 0.5, 2.0, -1.0),
    "dry_multiplier": number(0.0, 0.8, 2.0),
    "dry_base": number(1.75, 1.0, 1.0000001),
    "dry_allowed_length": st.sampled_from([2, 0, 1, 10, 2**31 - 1]),
    "dry_penalty_last_n": st.sampled_from([-1, 0, 1, 16, 2**20]),
    "dry_sequence_breakers": st.sampled_from([("\n", ":"), ("a",), (" ", "the", "ü"), ("x" * 60,)]),
    "mirostat": st.sampled_from([0, 0, 0, 1, 2]),
    "mirostat_tau": number(5.0, 0.0, 1.0),
    "mirostat_eta": number(0.1, 1.0),
    "adaptive_target": number(-1.0, 0.3, 0.0, 1.0, high=1.0),
    "adaptive_decay": st.sampled_from([0.9, 0.0, 0.99]),
    "min_keep": st.sampled_from([0, 1, 2, 600, 2**31 - 1]),
    "order": ORDERS,
    "logit_bias": st.lists(PAIRS, min_size=1, max_size=4).map(tuple),
}


@dataclass(frozen=True)
class Language:
    """A grammar, and which texts may be the beginning of one of its own."""

    grammar: Grammar
    may_begin: Callable[[str], bool] = field(repr=False)
    is_whole: Callable[[str], bool] = field(repr=False)


def language(kind: GrammarKind, source: str, begins: str, whole: str, *triggers: str) -> Language:
    """Take the beginnings and the whole texts as regular expressions; of a lazy grammar from the trigger on."""

    def from_trigger(text: str) -> str | None:
        found = [text.find(each) for each in triggers if each in text]
        return text[min(found) :] if found else (None if triggers else text)

    def fits(pattern: str, text: str) -> bool:
        held = from_trigger(text)
        return held is None or re.fullmatch(pattern, held) is not None

    grammar = Grammar(kind, source, triggers)
    return Language(grammar, lambda text: fits(begins, text), lambda text: fits(whole, text))


PERSON = {
    "type": "object",
    "properties": {"n": {"type": "integer", "minimum": 0, "maximum": 99}, "of": {"enum": ["cat", "dog"]}},
    "required": ["n", "of"],
    "additionalProperties": False,
}
NESTED = 'root ::= "(" item ("," item)* ")"\nitem ::= [a-z ]{1,9} | root'
SHOUTED = "( the |, )[A-Z]*"
LANGUAGES = [
    language(GrammarKind.REGEX, "[a-z ]{1,30}", "[a-z ]{0,30}", "[a-z ]{1,30}"),
    language(GrammarKind.REGEX, "(yes|no)[0-9]{2}", "|y|ye|n|(yes|no)[0-9]{0,2}", "(yes|no)[0-9]{2}"),
    language(GrammarKind.GBNF, 'root ::= ([a-z]+ " "){3,6} "."', "([a-z]+ ){0,6}([a-z]*|[.])", r"([a-z]+ ){3,6}\."),
    language(GrammarKind.GBNF, NESTED, r"[(), a-z]*", r"\([(), a-z]*\)"),
    language(GrammarKind.JSON_SCHEMA, json.dumps(PERSON), r"[\s\S]*", r'\s*\{\s*"n"[\s\S]*\}\s*'),
    language(GrammarKind.REGEX, "a[0-9]{3}!", "a[0-9]{0,3}!?", "a[0-9]{3}!", "a"),
    language(
        GrammarKind.GBNF, 'root ::= (" the " | ", ") [A-Z]*', "( the |, )[A-Z]*", "( the |, )[A-Z]*", " the ", ", "
    ),
]
PROMPTS = st.sampled_from(
    ["Once upon a time", "Tom saw a cat. Tom saw a dog. Tom saw a", "a a a a a a a a a a a a", "Lily", "the end.\n"]
)


@dataclass(frozen=True)
class Ask:
    """One request; cancelled after so many events, if that isn't None."""

    prompt: str
    sampling: SamplingParams
    language: Language | None
    more: dict[str, Any]
    cancelled_after: int | None

    def request(self, engine: Engine, **changes: Any) -> GenerationRequest:
        tokens = engine.vocabulary.tokenize(self.prompt, add_special=True, parse_special=True)
        return request_for(tokens, **{"sampling": self.sampling, **self.more, **changes})


@st.composite
def asks(draw: st.DrawFn, max_tokens: st.SearchStrategy[int]) -> Ask:
    names = draw(st.lists(st.sampled_from(sorted(SAMPLING)), max_size=8, unique=True))
    found = draw(st.none() | st.sampled_from(LANGUAGES))
    sampling = SamplingParams(
        **{name: draw(SAMPLING[name]) for name in names},
        seed=draw(st.sampled_from([0, 1, 2**32 - 2]) | st.integers(0, 2**32 - 2)),
        grammar=found.grammar if found else None,
        n_probs=draw(st.sampled_from([0, 0, 1, 3, 130, 600])),
        post_sampling_probs=draw(st.booleans()),
    )
    more = {
        "max_tokens": draw(max_tokens),
        "ignore_eos": draw(st.booleans()),
        "cache_prompt": draw(st.booleans()),
        "wants_prompt_probs": sampling.n_probs > 0 and draw(st.sampled_from([False, False, True])),
        "wants_progress": draw(st.booleans()),
        "stop": draw(st.sampled_from([(), (), ("and",)])),
    }
    return Ask(draw(PROMPTS), sampling, found, more, draw(st.sampled_from([None, None, None, None, 0, 1, 5])))


# A kind of engine, the requests it gets at once, and the texts that it makes vectors of beside them.
Case = tuple[str, list[Ask], list[list[int]]]

# -- who is asked -----------------------------------------------------------------------------------------------------

OVERFLOWING = ((0, LARGEST),)
KINDS = ("plain", "lookup", "draft", "shifting", "adapted")


@dataclass
class Engines:
    """Engines of every kind, made when they are first asked, and one that answers one request after another."""

    model: Model
    adapter: Path
    made: dict[str, Engine] = field(default_factory=dict)

    def __getitem__(self, kind: str) -> Engine:
        if kind not in self.made:
            self.made[kind] = self._new(kind)
        return self.made[kind]

    def _new(self, kind: str) -> Engine:
        params = EngineParams(
            n_ctx=256 if kind == "shifting" else 1024,
            n_batch=64,
            num_slots=2 if kind == "shifting" else 3,
            context_shift=kind == "shifting",
            has_lookup=kind == "lookup",
            draft_max=4,
            parking_bytes=100_000,
        )
        adapters = Adapters()
        if kind in ("adapted", "adapted alone"):
            adapters = Adapters([Adapter("one", LoraAdapter(self.model, self.adapter))], (0.0,))
        draft = self.model if kind == "draft" else None
        return Engine(self.model, params, lambda call: call(), draft_model=draft, adapters=adapters)

    def close(self) -> None:
        for engine in self.made.values():
            engine.close()


@pytest.fixture(scope="module")
def engines(stories260k: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    model = Model(Library(), stories260k)
    engines = Engines(model, write_adapter(tmp_path_factory.mktemp("fuzz") / "adapter.gguf", stories260k))
    yield engines
    engines.close()
    model.close()


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kind = draw(st.sampled_from(KINDS))
    lengths = st.integers(1, 24) | st.integers(200, 400) if kind == "shifting" else st.integers(1, 24)
    asked = draw(st.lists(asks(lengths), min_size=1, max_size=4))
    if kind == "adapted":
        scales = st.sampled_from([None, ((0, 1.0),), ((0, 0.5),), ((0, -3.0),), OVERFLOWING])
        asked = [replace(each, more={**each.more, "lora": draw(scales)}) for each in asked]
    texts = draw(st.just([]) | st.lists(st.lists(st.integers(0, 511), min_size=1, max_size=90), min_size=1, max_size=3))
    return kind, asked, texts


# -- what is heard ----------------------------------------------------------------------------------------------------


@dataclass
class Heard:
    text: str = ""
    tokens: list[int] = field(default_factory=list)
    probs: list[TokenProbs] = field(default_factory=list)
    prompt_probs: list[TokenProbs] = field(default_factory=list)
    last: Finished | Failed | None = None


class Client:
    """One request on its way."""

    def __init__(self, engine: Engine, request: GenerationRequest, cancelled_after: int | None) -> None:
        self._engine = engine
        self._cancelled_after = cancelled_after
        self._events: queue.Queue[Event] = queue.Queue()
        engine.prepare(request.params.sampling)
        self._id = engine.submit(request, self._events.put)

    def listen(self) -> Heard:
        """Return all that the request hears, or what it has heard until it is cancelled."""
        heard, num_events = Heard(), 0
        while heard.last is None:
            if num_events == self._cancelled_after:
                self._engine.cancel(self._id)
                return heard
            event = self._events.get(timeout=TIMEOUT_SECONDS)
            num_events += 1
            if isinstance(event, TextDelta):
                heard.text += event.text
                heard.tokens += event.tokens
                heard.probs += event.probs
            elif isinstance(event, Progress):
                heard.prompt_probs += event.probs
            else:
                heard.last = event
        return heard


def hold(engines: Engines, case: Case) -> None:
    if not is_heard_alone_too(engines, case):
        # A logit's last bits depend on what it is computed beside, and may once decide. Another seed decides otherwise.
        again = [reseeded(case, number) for number in range(1, 4)]
        assert any(is_heard_alone_too(engines, each) for each in again), "what is heard depends on the others"


def reseeded(case: Case, number: int) -> Case:
    kind, asked, texts = case
    seeds = [(ask.sampling.seed or 0) ^ number for ask in asked]
    changed = [replace(ask.sampling, seed=seed) for ask, seed in zip(asked, seeds, strict=True)]
    return kind, [replace(ask, sampling=each) for ask, each in zip(asked, changed, strict=True)], texts


def is_heard_alone_too(engines: Engines, case: Case) -> bool:
    """Ask all at once, check what is heard, and return whether each request hears the same alone."""
    kind, asked, texts = case
    engine = engines[kind]
    is_same = True
    vectors: queue.Queue[EmbeddingJob | Exception] = queue.Queue()
    clients = [Client(engine, each.request(engine), each.cancelled_after) for each in asked]
    if texts:
        engine.embed(EmbeddingJob(texts, vectors.put))
    all_heard = [client.listen() for client in clients]
    if texts:
        check_vectors(vectors.get(timeout=TIMEOUT_SECONDS), len(texts), engine.info.n_embd)
    for ask, heard in zip(asked, all_heard, strict=True):
        if ask.more.get("lora") == OVERFLOWING:
            continue  # the model's numbers for this one are none; only the others' must be what they are
        check_heard(engine, ask, heard)
        # Cells that were moved are rounded once more.
        if heard.last is not None and kind != "shifting" and not is_extreme(ask.sampling):
            is_same = is_same and heard_alone(engines, ask) == (heard.text, heard.tokens)
    return is_same


def is_extreme(sampling: SamplingParams) -> bool:
    """Whether a number is so large or small that beside it all logits are alike."""
    numbers = [getattr(sampling, each.name) for each in fields(sampling)] + [bias for _, bias in sampling.logit_bias]
    return any(isinstance(each, float) and each and not 1e-3 < abs(each) < 1e3 and each > -math.inf for each in numbers)


def check_vectors(job: EmbeddingJob | Exception, num_texts: int, length: int) -> None:
    assert isinstance(job, EmbeddingJob), job
    assert [len(vectors) for vectors in job.results] == [1] * num_texts
    assert all(len(vector) == length and all(map(math.isfinite, vector)) for (vector,) in job.results)


def check_heard(engine: Engine, ask: Ask, heard: Heard) -> None:
    assert not isinstance(heard.last, Failed), heard.last
    if ask.language is not None and not ask.more["stop"]:
        assert ask.language.may_begin(heard.text), heard.text
        if isinstance(heard.last, Finished) and heard.last.reason is FinishReason.END_OF_TEXT:
            assert ask.language.is_whole(heard.text), heard.text
            if ask.language.grammar.kind is GrammarKind.JSON_SCHEMA:
                json.loads(heard.text)
    num_probs = ask.sampling.n_probs
    told = [*heard.probs, *heard.prompt_probs]
    for each in told:
        check_probs(each, num_probs, engine.info.n_vocab)
    if num_probs:
        assert [each.token for each in heard.probs] == heard.tokens


def check_probs(probs: TokenProbs, num_probs: int, n_vocab: int) -> None:
    logprobs = [logprob for _token, _piece, logprob in probs.top]
    assert logprobs == sorted(logprobs, reverse=True)
    assert len(logprobs) <= min(num_probs, n_vocab)
    assert sum(map(math.exp, logprobs)) <= 1.001
    assert math.exp(probs.logprob) <= 1.001
    assert len({token for token, _piece, _logprob in probs.top}) == len(probs.top)
    assert all(logprob == probs.logprob for token, _piece, logprob in probs.top if token == probs.token)


def heard_alone(engines: Engines, ask: Ask) -> tuple[str, list[int]]:
    """The same request alone, with nothing of its prompt in the cache and nobody asking for probabilities."""
    engine = engines["adapted alone" if "lora" in ask.more else "alone"]
    sampling = replace(ask.sampling, n_probs=0)
    request = ask.request(engine, sampling=sampling, cache_prompt=False, wants_prompt_probs=False)
    heard = Client(engine, request, None).listen()
    return heard.text, heard.tokens


@FEW
@given(case=cases())
def test_no_mix_of_requests_disturbs_the_engine(engines: Engines, case: Case) -> None:
    hold(engines, case)


@pytest.mark.fuzz
@pytest.mark.timeout(7200)
@MANY
@given(case=cases())
def test_twenty_thousand_mixes_do_not_either(engines: Engines, case: Case) -> None:
    hold(engines, case)
