"""Grammars and probabilities through the whole engine, with real models."""

import json
import math
import queue
import random
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from runtime.engine.engine import Engine
from runtime.engine.native import DryStages, Library, Model
from runtime.engine.policy.scheduler import Scheduler
from runtime.engine.values.events import Event, Failed, Finished, FinishReason, Progress, TextDelta, TokenProbs
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.engine.values.params import EngineParams
from runtime.engine.values.sampling import Sampler, SamplingParams
from runtime.errors import RequestError
from tests.asking import request_for
from tests.runtime.engine.test_guidance import JSON
from tests.schemas import random_schema
from tests.tiny_models import write_windowed

GREEDY = SamplingParams(temperature=0)


@dataclass
class Heard:
    """What a client heard of its request."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    probs: list[TokenProbs] = field(default_factory=list)
    last: Finished | Failed | None = None

    @property
    def reason(self) -> FinishReason:
        assert isinstance(self.last, Finished), self.last
        return self.last.reason


def submit(engine: Engine, prompt: str, sampling: SamplingParams, **more: object) -> "queue.Queue[Event]":
    events: queue.Queue[Event] = queue.Queue()
    tokens = tuple(engine.vocabulary.tokenize(prompt, add_special=True, parse_special=True))
    request = request_for(tokens, sampling=sampling, **{"max_tokens": 64, **more})
    engine.submit(request, events.put)
    return events


def listen(events: "queue.Queue[Event]") -> Heard:
    heard = Heard()
    while heard.last is None:
        event = events.get(timeout=60)
        if isinstance(event, TextDelta):
            heard.text += event.text
            heard.tokens += event.tokens
            heard.probs += event.probs
        else:
            heard.last = event
    return heard


def generate(engine: Engine, prompt: str, sampling: SamplingParams, **more: object) -> Heard:
    return listen(submit(engine, prompt, sampling, **more))


def under(kind: GrammarKind, source: str, *triggers: str, **more: object) -> SamplingParams:
    return SamplingParams(grammar=Grammar(kind, source, triggers), **{"seed": 1, **more})  # type: ignore[arg-type]


@pytest.fixture
def engine(stories: Model) -> Iterator[Engine]:
    engine = Engine(stories, EngineParams(n_ctx=512, n_batch=64, num_slots=4), post=lambda call: call())
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def chat_engine(smollm2: Path) -> Iterator[Engine]:
    model = Model(Library(), smollm2)
    engine = Engine(model, EngineParams(n_ctx=1024, num_threads=None), post=lambda call: call())
    yield engine
    engine.close()
    model.close()


# -- grammars ---------------------------------------------------------------------------------------------------------

# What llama-server of the same llama.cpp answers: temperature 0.8, this seed, 24 tokens.
WORDS = 'root ::= ([a-z]+ " "){3,6} "."'
RECURSIVE = 'root ::= "(" item ("," item)* ")"\nitem ::= [a-z ]{1,9} | root'
LLAMA_SERVERS = [
    (JSON, "Once upon a time", 40, '{ \n"Hello,"  \n \n \n \n  \n \n'),
    (JSON, "The little dog", 41, '{ \n"Come on a jar," \n\n\n\n \n \n\n'),
    (JSON, "Mom said", 42, "{    \n\"Don't all all her toys? You ne"),
    (WORDS, "Once upon a time", 40, "uts were twins who lived inside ."),
    (WORDS, "The little dog", 41, "s were outside and loved to ."),
    (WORDS, "Mom said", 42, "siefels with a filthy label into ."),
    (RECURSIVE, "Once upon a time", 40, "( lived a , there we, a little, pretty b, a little, fl"),
    (RECURSIVE, "The little dog", 41, "(rae the f, deer who, is a goo, and she ,"),
    (RECURSIVE, "Mom said", 42, "(thip, a little, a vase, a dog, a man, and"),
]


@pytest.mark.parametrize(("grammar", "prompt", "seed", "text"), LLAMA_SERVERS)
def test_a_seed_gives_llama_servers_text(engine: Engine, grammar: str, prompt: str, seed: int, text: str) -> None:
    sampling = under(GrammarKind.GBNF, grammar, temperature=0.8, seed=seed)
    assert generate(engine, prompt, sampling, max_tokens=24).text == text


def test_the_answers_of_200_random_schemas_validate(stories: Model) -> None:
    params = EngineParams(n_ctx=16384, num_slots=8, max_waiting=200, num_threads=1)
    engine = Engine(stories, params, post=lambda call: call())
    schemas = [random_schema(seed) for seed in range(200)]
    answers = []
    for seed, schema in enumerate(schemas):
        sampling = under(GrammarKind.JSON_SCHEMA, json.dumps(schema), temperature=1.2, seed=seed)
        answers.append(submit(engine, "Once upon a time", sampling, max_tokens=4000))
    for schema, events in zip(schemas, answers, strict=True):
        heard = listen(events)
        assert heard.reason is FinishReason.END_OF_TEXT, heard.text
        jsonschema.Draft202012Validator(schema, format_checker=FORMATS).validate(json.loads(heard.text))
    engine.close()


FORMATS = jsonschema.Draft202012Validator.FORMAT_CHECKER
_is_date, _is_date_time = FORMATS.checkers["date"][0], FORMATS.checkers["date-time"][0]


@FORMATS.checks("date")
def is_date(value: object) -> bool:
    """RFC 3339 has a year 0000, Python has not."""
    return bool(_is_date("2000" + value[4:] if isinstance(value, str) and value.startswith("0000") else value))


@FORMATS.checks("date-time")
def is_date_time(value: object) -> bool:
    return bool(_is_date_time("2000" + value[4:] if isinstance(value, str) and value.startswith("0000") else value))


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def test_a_chat_model_answers_in_json(chat_engine: Engine) -> None:
    prompt = "<|im_start|>user\nDescribe a person as JSON.<|im_end|>\n<|im_start|>assistant\n"
    schema = json.dumps(PERSON)
    clients = [
        submit(chat_engine, prompt, under(GrammarKind.JSON_SCHEMA, schema, temperature=1.0, seed=seed), max_tokens=300)
        for seed in range(6)
    ]
    for events in clients:
        heard = listen(events)
        assert heard.reason is FinishReason.END_OF_TEXT
        jsonschema.validate(json.loads(heard.text), PERSON)


def test_a_lazy_grammar_waits_for_its_trigger(engine: Engine) -> None:
    free = generate(engine, "Once upon a time", SamplingParams(seed=1))
    trigger = b"".join(map(engine.vocabulary.piece, free.tokens[4:12])).decode()
    before = free.text[: free.text.index(trigger)]
    lazy = generate(engine, "Once upon a time", under(GrammarKind.REGEX, f"{re.escape(trigger)}[0-9]{{3}}!", trigger))
    assert re.fullmatch(re.escape(before + trigger) + "[0-9]{3}!", lazy.text)


def test_a_grammar_survives_being_put_off(stories: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool has cells for one of the two only, so one gives its cells back half way."""
    put_off = []
    preempt = Scheduler._preempt
    monkeypatch.setattr(
        Scheduler, "_preempt", lambda self, sequence: (put_off.append(sequence), preempt(self, sequence))
    )
    engine = Engine(stories, EngineParams(n_ctx=256, n_batch=64, num_slots=2), post=lambda call: call())
    sampling = under(GrammarKind.REGEX, "([a-z]-){100}!")
    clients = [submit(engine, "Once", sampling, max_tokens=220, cache_prompt=False) for _ in range(2)]
    for events in clients:
        assert re.fullmatch("([a-z]-){100}!", listen(events).text)
    assert put_off
    engine.close()


def test_the_end_of_a_grammar_is_the_end_even_of_an_answer_without_end(engine: Engine) -> None:
    heard = generate(engine, "Once", under(GrammarKind.GBNF, 'root ::= "yes"'), ignore_eos=True)
    assert (heard.text, heard.reason) == ("yes", FinishReason.END_OF_TEXT)


def test_forbidding_all_that_a_grammar_allows_changes_nothing(engine: Engine) -> None:
    forbidden = tuple((token, -math.inf) for token in range(engine.info.n_vocab))
    heard = generate(engine, "Once", under(GrammarKind.GBNF, 'root ::= "yes"', logit_bias=forbidden))
    assert heard.text == "yes"


def test_a_bias_on_a_text_with_more_tokens_than_bytes_stops_nobody(tmp_path: Path) -> None:
    model = Model(Library(), write_windowed(tmp_path / "model.gguf", window=16))
    engine = Engine(model, EngineParams(n_ctx=256, n_batch=64), post=lambda call: call())
    biased = SamplingParams(seed=1, logit_bias=((" " * 300, 1.0),))
    assert generate(engine, "a", biased, max_tokens=2, ignore_eos=True).reason is FinishReason.LENGTH
    engine.close()
    model.close()


def test_penalties_and_a_grammar_work_together(engine: Engine) -> None:
    letters = tuple((token, 50.0) for token in range(engine.info.n_vocab) if engine.vocabulary.piece(token) == b"a")
    wanted: dict[str, Any] = {"temperature": 0, "logit_bias": letters}
    plain = under(GrammarKind.REGEX, "[a-e]{40}", **wanted)
    penalized = under(GrammarKind.REGEX, "[a-e]{40}", frequency_penalty=5.0, **wanted)
    assert generate(engine, "Once", plain).text == "a" * 40
    varied = generate(engine, "Once", penalized).text
    assert re.fullmatch("[a-e]{40}", varied)
    assert len(set(varied)) > 1


def test_breakers_are_looked_for_before_the_engines_thread_needs_them(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampling = SamplingParams(seed=1, dry_multiplier=1.0, dry_allowed_length=1, dry_penalty_last_n=-1)
    unprepared = generate(engine, "Once upon a time", sampling)
    threads = []
    new = DryStages._new

    def watched(stages: DryStages, settings: Any) -> Any:
        threads.append(threading.current_thread())
        return new(stages, settings)

    monkeypatch.setattr(DryStages, "_new", watched)
    engine.prepare(sampling)
    for seed in (1, 2):
        heard = generate(engine, "Once upon a time", replace(sampling, seed=seed))
        assert (heard.tokens == unprepared.tokens) is (seed == 1)
    assert threads == [threading.current_thread()]


def test_a_bad_grammar_is_refused_at_once(engine: Engine) -> None:
    for sampling in (under(GrammarKind.GBNF, "root :="), under(GrammarKind.JSON_SCHEMA, '{"not": {}}')):
        with pytest.raises(RequestError):
            submit(engine, "Once", sampling)
        with pytest.raises(RequestError):
            engine.prepare(sampling)


def test_a_grammar_that_grows_too_complex_fails_its_request_and_no_other(stories: Model) -> None:
    engine = Engine(stories, EngineParams(n_ctx=4096, num_slots=2, num_threads=1), post=lambda call: call())
    letters = tuple((token, 100.0) for token in range(stories.facts.n_vocab) if stories.piece(token) == b"a")
    hostile = under(GrammarKind.GBNF, 'root ::= x* "(" root ")" | x*\nx ::= [a]+ | [a ]*', logit_bias=letters)
    failing = submit(engine, "Once", hostile, max_tokens=3000, ignore_eos=True)
    fine = submit(engine, "Once", GREEDY, max_tokens=40)
    assert isinstance(listen(fine).last, Finished)
    heard = listen(failing)
    assert isinstance(heard.last, Failed)
    assert isinstance(heard.last.error, RequestError)
    assert "too complex" in str(heard.last.error)
    assert generate(engine, "Once", GREEDY, max_tokens=2).reason is FinishReason.LENGTH
    assert engine.num_processing == 0
    engine.close()


# -- probabilities ----------------------------------------------------------------------------------------------------


def test_probabilities_are_those_of_the_logits_whatever_the_samplers_do(engine: Engine) -> None:
    sampling = SamplingParams(seed=3, n_probs=3)
    heard = generate(engine, "Once upon a time", sampling, max_tokens=8)
    assert [each.token for each in heard.probs] == heard.tokens
    hotter = generate(engine, "Once upon a time", SamplingParams(seed=3, n_probs=3, temperature=3.0), max_tokens=1)
    for (token, _piece, logprob), (cool_token, _, cool) in zip(hotter.probs[0].top, heard.probs[0].top, strict=True):
        assert (token, logprob) == (cool_token, pytest.approx(cool, abs=1e-3))
    for each in heard.probs:
        assert [logprob for _token, _piece, logprob in each.top] == sorted((p for _, _, p in each.top), reverse=True)
        assert all(engine.vocabulary.piece(token) == piece for token, piece, _logprob in each.top)
        assert each.piece == engine.vocabulary.piece(each.token)


def test_all_probabilities_together_are_one(engine: Engine) -> None:
    count = engine.info.n_vocab
    for is_after in (False, True):
        sampling = SamplingParams(seed=3, n_probs=count, post_sampling_probs=is_after)
        (probs,) = generate(engine, "Once upon a time", sampling, max_tokens=1).probs
        assert sum(math.exp(logprob) for _token, _piece, logprob in probs.top) == pytest.approx(1, abs=1e-4)
        assert len(probs.top) == count if not is_after else 1 <= len(probs.top) <= 40
        assert (probs.token, probs.piece, probs.logprob) in probs.top


def test_after_sampling_a_greedy_choice_is_certain(engine: Engine) -> None:
    sampling = SamplingParams(temperature=0, n_probs=5, post_sampling_probs=True)
    for each in generate(engine, "Once", sampling, max_tokens=4).probs:
        assert each.top == ((each.token, each.piece, 0.0),)


# What llama-server says of the first two tokens after this prompt: token, logprob, and the two likeliest. The model's
# weights are not quantized, so every processor computes these figures to the third digit.
LLAMA_SERVERS_LOGPROBS = [(432, -0.031781, (432, 383)), (383, -0.068385, (383, 322))]


def test_probabilities_are_llama_servers(engine: Engine) -> None:
    heard = generate(engine, "Once upon a time", SamplingParams(temperature=0, n_probs=2), max_tokens=2)
    for each, (token, logprob, top) in zip(heard.probs, LLAMA_SERVERS_LOGPROBS, strict=True):
        assert (each.token, tuple(likely[0] for likely in each.top)) == (token, top)
        assert each.logprob == pytest.approx(logprob, abs=0.001)


def test_a_grammar_leaves_the_models_own_probabilities_as_they_are(engine: Engine) -> None:
    sampling = under(GrammarKind.GBNF, 'root ::= "xyz"', n_probs=2, temperature=0)
    (first, *_rest) = generate(engine, "Once upon a time", sampling).probs
    assert first.piece.startswith(b"x")
    assert first.logprob < first.top[1][2]


def test_a_prompts_probabilities_are_those_it_had_when_it_was_an_answer(engine: Engine) -> None:
    told = generate(engine, "Once upon a time", SamplingParams(seed=3, n_probs=3), max_tokens=20)
    beginning = engine.vocabulary.tokenize("Once upon a time", add_special=True, parse_special=True)
    events: queue.Queue[Event] = queue.Queue()
    whole = request_for(
        (*beginning, *told.tokens), sampling=SamplingParams(n_probs=3), max_tokens=0, wants_prompt_probs=True
    )
    busy = [submit(engine, "There was", GREEDY, max_tokens=30) for _ in range(3)]
    engine.submit(whole, events.put)
    heard: list[TokenProbs] = []
    while isinstance(event := events.get(timeout=30), Progress):
        heard += event.probs
    assert isinstance(event, Finished)
    assert event.timings.num_cached_tokens == 0
    assert [each.token for each in heard] == [*beginning, *told.tokens][1:]
    for again, before in zip(heard[len(beginning) - 1 :], told.probs, strict=True):
        assert again.logprob == pytest.approx(before.logprob, abs=1e-2)
        assert [token for token, *_ in again.top] == [token for token, *_ in before.top]
    for each in busy:
        listen(each)


def test_nothing_is_told_that_was_not_asked_for(engine: Engine) -> None:
    assert generate(engine, "Once", SamplingParams(seed=1), max_tokens=4).probs == []
    assert engine._worker._choosers._candidates is None


def random_sampling(chance: random.Random) -> SamplingParams:
    """Any chain of the samplers, in any order and with settings that let each of them do something."""
    order = tuple(chance.sample(list(Sampler), chance.randint(1, len(Sampler))))
    return SamplingParams(
        temperature=chance.choice([0.3, 1.0, 2.0]),
        top_k=chance.choice([0, 5, 40]),
        top_p=chance.uniform(0.5, 1),
        min_p=chance.choice([0.0, 0.02]),
        typical_p=chance.uniform(0.5, 1),
        repeat_penalty=chance.uniform(1, 1.5),
        top_n_sigma=chance.choice([-1.0, 2.0]),
        xtc_probability=chance.choice([0.5, 1.0]),
        xtc_threshold=chance.choice([0.0, 0.05, 0.1]),
        dynatemp_range=chance.choice([0.0, 0.5]),
        dry_multiplier=chance.choice([0.0, 1.0]),
        mirostat=chance.choice([0, 0, 0, 1, 2]),
        adaptive_target=chance.choice([-1.0, 0.3]),
        min_keep=chance.choice([0, 2]),
        order=order,
        seed=chance.getrandbits(31),
    )


@pytest.mark.parametrize("number", range(60))
def test_who_asks_for_probabilities_gets_the_same_text(engine: Engine, number: int) -> None:
    """Two ways lead through a chain: llama.cpp's own, and through candidates of ours, which grammars need, too."""
    sampling = random_sampling(random.Random(number))
    plain = generate(engine, "Once upon a time", sampling, max_tokens=24, ignore_eos=True)
    for is_after_sampling in (False, True):
        asked = replace(sampling, n_probs=3, post_sampling_probs=is_after_sampling)
        told = generate(engine, "Once upon a time", asked, max_tokens=24, ignore_eos=True)
        assert told.tokens == plain.tokens
        assert [each.token for each in told.probs] == plain.tokens
        assert all(math.exp(each.logprob) <= 1.0001 for each in told.probs)


@pytest.mark.parametrize("number", range(30))
def test_any_chain_holds_to_a_grammar(engine: Engine, number: int) -> None:
    chance = random.Random(number)
    n_probs = chance.choice([0, 2])
    asked = replace(
        random_sampling(chance),
        grammar=Grammar(GrammarKind.REGEX, "[a-z ]{1,30}"),
        n_probs=n_probs,
        post_sampling_probs=chance.random() < 0.5,
    )
    heard = generate(engine, "Once", asked, max_tokens=20)
    assert re.fullmatch("[a-z ]{0,30}", heard.text), heard.text
