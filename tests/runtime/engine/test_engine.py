"""The engine's thread with real models."""

import queue
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.engine import threads, worker
from runtime.engine.engine import Engine
from runtime.engine.native import Context, Library, Model
from runtime.engine.values.commands import EraseSlot
from runtime.engine.values.embedding import EmbeddingJob
from runtime.engine.values.events import Event, Failed, Finished, FinishReason, TextDelta
from runtime.engine.values.grammar import Grammar, GrammarKind
from runtime.engine.values.params import EngineParams
from runtime.engine.values.request import GenerationRequest
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import EngineError, EngineRestarted, ModelError, PromptTooLong, QueueFull, RequestError, Unavailable
from tests.asking import request_for

GREEDY = SamplingParams(temperature=0)


class Client:
    """One request and what it hears."""

    def __init__(self, engine: Engine, request: GenerationRequest) -> None:
        self.events: queue.Queue[Event] = queue.Queue()
        self.text = ""
        self.id = engine.submit(request, self.events.put)

    def next(self) -> Event:
        event = self.events.get(timeout=30)
        if isinstance(event, TextDelta):
            self.text += event.text
        return event

    def finish(self) -> Finished:
        while True:
            event = self.next()
            if isinstance(event, Finished):
                return event
            assert isinstance(event, TextDelta), event


@pytest.fixture
def engine(stories: Model) -> Iterator[Engine]:
    engine = Engine(stories, EngineParams(n_ctx=256, n_batch=64, num_slots=4), post=lambda call: call())
    yield engine
    engine.close()


def request(engine: Engine, text: str, **more: object) -> GenerationRequest:
    tokens = tuple(engine.vocabulary.tokenize(text, add_special=True, parse_special=True))
    return request_for(tokens, **{"sampling": GREEDY, "max_tokens": 16, **more})


@pytest.fixture(scope="module")
def chat_engine(smollm2: Path) -> Iterator[Engine]:
    model = Model(Library(), smollm2)
    engine = Engine(model, EngineParams(n_ctx=512, num_threads=None), post=lambda call: call())
    yield engine
    engine.close()
    model.close()


QUESTION = "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
# A choice that is far from close: which words a model takes for it depends on the processor's last digits.
CITIES = Grammar(GrammarKind.GBNF, 'root ::= "The capital of France is " ("Berlin" | "London" | "Paris" | "Rome") "."')


def test_smollm2_knows_the_capital_of_france(chat_engine: Engine) -> None:
    sampling = SamplingParams(temperature=0, grammar=CITIES)
    client = Client(chat_engine, request(chat_engine, QUESTION, sampling=sampling, max_tokens=32))
    assert client.finish().reason is FinishReason.END_OF_TEXT
    assert client.text == "The capital of France is Paris."


def test_ignore_eos_goes_on_where_the_model_would_end(chat_engine: Engine) -> None:
    (end,) = chat_engine.vocabulary.tokenize("<|im_end|>", add_special=False, parse_special=True)
    ending = SamplingParams(temperature=0, logit_bias=((end, 100.0),))
    ended = Client(chat_engine, request(chat_engine, QUESTION, sampling=ending)).finish()
    assert (ended.reason, ended.timings.num_generated_tokens) == (FinishReason.END_OF_TEXT, 1)
    client = Client(chat_engine, request(chat_engine, QUESTION, sampling=ending, ignore_eos=True))
    goes_on = client.finish()
    assert (goes_on.reason, goes_on.timings.num_generated_tokens) == (FinishReason.LENGTH, 16)
    assert client.text  # the end is no text


def test_eight_requests_on_four_slots_get_the_text_each_would_have_alone(engine: Engine) -> None:
    prompts = [f"Once upon a time, there was {what}" for what in ("a cat", "a dog", "Tom", "a big tree")] * 2
    alone = []
    for prompt in prompts:
        client = Client(engine, request(engine, prompt, cache_prompt=False))
        client.finish()
        alone.append(client.text)
    clients = [Client(engine, request(engine, prompt)) for prompt in prompts]
    for client in clients:
        client.finish()
    assert [client.text for client in clients] == alone


def test_a_seed_gives_the_same_text_again(engine: Engine) -> None:
    texts = []
    for seed in (1, 1, 2):
        sampling = SamplingParams(temperature=1.0, seed=seed)
        client = Client(engine, request(engine, "Once", sampling=sampling, max_tokens=30, cache_prompt=False))
        client.finish()
        texts.append(client.text)
    assert texts[0] == texts[1] != texts[2]


def test_a_repeated_prompt_is_found_in_the_cache(engine: Engine) -> None:
    prompt = request(engine, "Once upon a time, there was a little girl", max_tokens=1)
    assert Client(engine, prompt).finish().timings.num_cached_tokens == 0
    timings = Client(engine, prompt).finish().timings
    assert (timings.num_cached_tokens, timings.num_prompt_tokens) == (len(prompt.prompt.tokens) - 1, 1)


def test_a_full_context_ends_with_length(engine: Engine) -> None:
    prompt = request(engine, "Once", max_tokens=None, ignore_eos=True)
    finished = Client(engine, prompt).finish()
    assert finished.reason is FinishReason.LENGTH
    assert len(prompt.prompt.tokens) + finished.timings.num_generated_tokens == engine.info.n_ctx


def test_a_context_that_is_not_shared_gives_each_slot_its_part(stories: Model) -> None:
    parts = EngineParams(n_ctx=512, n_batch=64, num_slots=2, is_shared=False)
    engine = Engine(stories, parts, post=lambda call: call())
    assert engine.info.n_ctx == 256
    prompt = request(engine, "Once", max_tokens=None, ignore_eos=True)
    clients = [Client(engine, prompt) for _ in range(2)]
    for finished in [client.finish() for client in clients]:
        assert len(prompt.prompt.tokens) + finished.timings.num_generated_tokens == 256
    engine.close()


def test_no_event_follows_a_cancel_and_the_slot_is_free_again(stories: Model) -> None:
    engine = Engine(stories, EngineParams(n_ctx=2048, n_batch=64, num_slots=1), post=lambda call: call())
    endless = Client(engine, request(engine, "Once", max_tokens=None, ignore_eos=True))
    endless.next()
    engine.cancel(endless.id)
    engine.cancel(endless.id)
    assert Client(engine, request(engine, "Tom", max_tokens=2)).finish()
    seen = endless.events.qsize()
    assert Client(engine, request(engine, "Lily", max_tokens=2)).finish()
    assert endless.events.qsize() == seen
    engine.close()


def test_a_full_queue_refuses_and_takes_up_again_when_there_is_room(stories: Model) -> None:
    params = EngineParams(n_ctx=2048, n_batch=64, num_slots=1, max_waiting=2)
    engine = Engine(stories, params, post=lambda call: call())
    endless = request(engine, "Once", max_tokens=None, ignore_eos=True)
    running = Client(engine, endless)
    running.next()  # it has left the queue
    waiting = [Client(engine, request(engine, "Tom", max_tokens=1)) for _ in range(2)]
    with pytest.raises(QueueFull, match="2 requests are waiting") as caught:
        engine.submit(endless, print)
    assert caught.value.retry_after_seconds > 0
    engine.cancel(running.id)
    for client in waiting:
        client.finish()
    Client(engine, request(engine, "Lily", max_tokens=1)).finish()
    engine.close()


def test_a_queue_that_is_full_of_one_clients_requests_takes_others(stories: Model) -> None:
    params = EngineParams(n_ctx=2048, n_batch=64, num_slots=1, max_waiting=3)
    engine = Engine(stories, params, post=lambda call: call())
    many = replace(request(engine, "Once", max_tokens=None, ignore_eos=True), group="many")
    Client(engine, many).next()  # it has left the queue
    for _ in range(3):
        Client(engine, many)
    with pytest.raises(QueueFull):
        Client(engine, many)
    for _ in range(2):  # a request with two answers is there whole or not at all
        Client(engine, replace(request(engine, "Tom"), group="two"))
    with pytest.raises(QueueFull):  # it would have as many as the one with most
        Client(engine, replace(request(engine, "Tom"), group="two"))
    Client(engine, replace(request(engine, "Tom"), group="one"))
    with pytest.raises(QueueFull):  # twice what the queue is to hold
        Client(engine, request(engine, "Tom"))
    engine.close()


def test_events_on_their_way_are_not_heard_after_a_cancel(stories: Model) -> None:
    calls: queue.Queue[Callable[[], None]] = queue.Queue()
    engine = Engine(stories, EngineParams(n_ctx=256, n_batch=64), post=calls.put)
    heard: list[Event] = []
    sequence_id = engine.submit(request(engine, "Once"), heard.append)
    first = calls.get(timeout=30)
    engine.cancel(sequence_id)
    first()
    engine.close()
    while not calls.empty():
        calls.get()()
    assert heard == []


def test_an_engine_that_follows_the_load_computes_with_what_it_is_told(
    stories: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[int] = []
    monkeypatch.setattr(Context, "set_threads", lambda self, num_threads: used.append(num_threads))
    monkeypatch.setattr(threads, "default_num_threads", lambda: 2)
    monkeypatch.setattr(worker, "default_num_threads", lambda: 2)
    monkeypatch.setattr(threads, "num_cpus", lambda: 2)
    monkeypatch.setattr(threads.TaskCounter, "num_others", lambda self: 5)
    engine = Engine(stories, EngineParams(n_ctx=256, n_batch=64, num_threads=None), post=lambda call: call())
    Client(engine, request(engine, "Once", max_tokens=4)).finish()
    assert set(used) == {1}
    monkeypatch.setattr(threads.TaskCounter, "num_others", lambda self: 0)
    Client(engine, request(engine, "Tom", max_tokens=4)).finish()
    engine.close()
    assert 2 in used


def test_a_prompt_that_does_not_fit_is_refused_with_the_numbers(engine: Engine) -> None:
    with pytest.raises(PromptTooLong, match="256 tokens exceeds the available context size of 256"):
        engine.submit(request_for((5,) * 256), print)


@pytest.mark.parametrize("tokens", [(), (-1,), (512,)], ids=["empty", "negative", "too large"])
def test_a_prompt_that_cannot_be_computed_is_refused(engine: Engine, tokens: tuple[int, ...]) -> None:
    with pytest.raises(RequestError):
        engine.submit(request_for(tokens), print)


def test_closing_ends_a_running_generation_at_once(stories: Model) -> None:
    engine = Engine(stories, EngineParams(n_ctx=2048, n_batch=64), post=lambda call: call())
    Client(engine, request(engine, "Once", max_tokens=None, ignore_eos=True)).next()
    engine.close()
    assert not engine._thread.is_alive()
    with pytest.raises(Unavailable):
        engine.submit(request_for((5,)), print)


def test_a_step_that_llama_cpp_refuses_fails_its_requests_and_no_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = engine._worker.context.decode

    def refuse(entries: object) -> None:
        monkeypatch.setattr(engine._worker.context, "decode", decode)
        raise EngineError("no")

    monkeypatch.setattr(engine._worker.context, "decode", refuse)
    failed = Client(engine, request(engine, "Once")).next()
    assert isinstance(failed, Failed)
    assert Client(engine, request(engine, "Once")).finish().timings.num_cached_tokens == 0


def break_down(*_given: object, **_named: object) -> None:
    raise ZeroDivisionError


@pytest.mark.parametrize("where", ["scheduler.add", "scheduler.schedule", "scheduler.commit", "_choosers.sample"])
def test_a_bug_in_the_engine_fails_what_is_computed_and_nothing_later(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    part, _, method = where.rpartition(".")
    monkeypatch.setattr(getattr(engine._worker, part), method, break_down)
    failed = Client(engine, request(engine, "Once")).next()
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, EngineRestarted)
    assert isinstance(failed.error.__cause__, ZeroDivisionError)  # which --verbose shows
    assert Client(engine, request(engine, "Once")).finish().timings.num_generated_tokens == 16
    assert engine.meter().num_steps > 0


def test_a_bug_in_the_engine_leaves_nobody_waiting(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: queue.Queue[object] = queue.Queue()
    monkeypatch.setattr(engine._worker.scheduler, "admit", break_down)
    with engine._wake:  # so that all are taken up in one turn
        engine.submit(request(engine, "Once"), heard.put)
        engine.embed(EmbeddingJob([(5, 6)], heard.put))
        engine.command(EraseSlot(0), heard.put)
    outcomes = [heard.get(timeout=30) for _ in range(3)]
    assert sum(isinstance(each, Failed) and isinstance(each.error, EngineRestarted) for each in outcomes) == 1
    assert sum(isinstance(each, EngineRestarted) for each in outcomes) >= 1  # the job
    job: queue.Queue[object] = queue.Queue()
    engine.embed(EmbeddingJob([(5, 6)], job.put))
    assert isinstance(job.get(timeout=30), EmbeddingJob)


def test_a_bug_in_the_engine_is_heard_by_who_waits_since_earlier(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: queue.Queue[object] = queue.Queue()
    endless = Client(engine, request(engine, "Once", max_tokens=None, ignore_eos=True))
    event = endless.next()
    assert isinstance(event, TextDelta)
    engine.command(EraseSlot(event.slot), heard.put)  # it waits for the slot
    while not engine._worker._commands:
        endless.next()
    monkeypatch.setattr(engine._worker.scheduler, "schedule", break_down)
    assert isinstance(heard.get(timeout=30), EngineRestarted)


def test_a_bug_in_the_vectors_fails_their_job(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: queue.Queue[object] = queue.Queue()
    monkeypatch.setattr(engine._worker._embeddings, "step", break_down)
    engine.embed(EmbeddingJob([(5, 6)], heard.put))
    assert isinstance(heard.get(timeout=30), EngineRestarted)
    engine.embed(EmbeddingJob([(5, 6)], heard.put))
    while not isinstance(heard.get(timeout=30), EmbeddingJob):
        pass


def test_who_comes_while_the_engine_starts_anew_is_served(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    later: queue.Queue[Client] = queue.Queue()

    def break_down_later(_arrivals: object) -> None:
        later.put(Client(engine, request(engine, "Once")))
        raise ZeroDivisionError

    monkeypatch.setattr(engine._worker, "turn", break_down_later)
    assert isinstance(Client(engine, request(engine, "Once")).next(), Failed)
    assert later.get(timeout=30).finish().timings.num_generated_tokens == 16


@pytest.mark.parametrize("where", ["_start_anew", "_make_worker", "_take_arrivals"])
def test_an_engine_that_cannot_go_on_says_so_and_leaves_nobody_waiting(
    stories: Model, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    ended: queue.Queue[Exception] = queue.Queue()
    engine = Engine(stories, EngineParams(n_ctx=256), post=lambda call: call(), on_end=ended.put)
    monkeypatch.setattr(engine._worker, "turn", break_down)
    monkeypatch.setattr(engine, where, break_down)
    clients = []
    with engine._wake:
        clients += [Client(engine, request(engine, "Once")) for _ in range(3)]
    for client in clients:
        assert isinstance(client.next(), Failed)
    assert isinstance(ended.get(timeout=30), EngineError)
    with pytest.raises(EngineError, match="start the program again"):
        engine.submit(request_for((5,)), print)
    with pytest.raises(EngineError):
        engine.embed(EmbeddingJob([(5,)], print))
    engine.close()


def test_the_events_of_a_step_cross_in_one_call(stories: Model) -> None:
    calls: queue.Queue[int] = queue.Queue()
    events: list[Event] = []

    def post(call: Callable[[], None]) -> None:
        before = len(events)
        call()
        calls.put(len(events) - before)

    engine = Engine(stories, EngineParams(n_ctx=256, n_batch=64, num_slots=4), post=post)
    with engine._wake:  # so that all four are taken up in one turn
        for _ in range(4):
            engine.submit(request(engine, "Once", max_tokens=4, cache_prompt=False), events.append)
    counts = [calls.get(timeout=30) for _ in range(4)]
    assert counts == [4, 4, 4, 8]
    engine.close()


def generate(engine: Engine, text: str, **more: object) -> tuple[str, Finished]:
    client = Client(engine, request(engine, text, **more))
    finished = client.finish()
    return client.text, finished


def test_an_engine_may_be_closed_twice(stories: Model) -> None:
    params = EngineParams(n_ctx=256, n_batch=64, num_slots=1)
    engine = Engine(stories, params, post=lambda call: call(), draft_model=stories)
    generate(engine, "Once", max_tokens=4)
    engine.close()
    engine.close()


def test_a_full_context_shifts_and_goes_on(stories: Model) -> None:
    params = EngineParams(n_ctx=256, n_batch=64, num_slots=1, context_shift=True)
    engine = Engine(stories, params, post=lambda call: call())
    text, finished = generate(engine, "Once upon a time", max_tokens=600, ignore_eos=True, n_keep=4)
    assert finished.timings.num_generated_tokens == 600
    assert finished.is_truncated
    assert "was" in text[-200:]  # words still, no noise from cells at wrong positions
    engine.close()


def test_conversations_that_had_to_leave_come_back_without_being_computed(stories: Model) -> None:
    names = ("Tom", "Lily", "Ben", "Anna", "Max")
    prompts = [f"{name} had a big red ball and wanted to play with it in the park all day long. " * 2 for name in names]
    texts = []
    for parking_bytes in (0, 10_000_000):
        params = EngineParams(n_ctx=256, n_batch=64, num_slots=2, parking_bytes=parking_bytes)
        engine = Engine(stories, params, post=lambda call: call())
        for prompt in prompts:
            generate(engine, prompt, max_tokens=1)
        answers = [generate(engine, prompt + "Then", max_tokens=20) for prompt in prompts]
        texts.append([text for text, _finished in answers])
        num_computed = [finished.timings.num_prompt_tokens for _text, finished in answers]
        assert all(num < 12 for num in num_computed) == (parking_bytes > 0), num_computed
        engine.close()
    assert texts[0] == texts[1]


@pytest.mark.parametrize("by", ["lookup", "draft model"])
@pytest.mark.parametrize("sampling", [GREEDY, SamplingParams(temperature=0.7, seed=3)], ids=["greedy", "by chance"])
def test_guessing_ahead_changes_no_text(stories: Model, by: str, sampling: SamplingParams) -> None:
    prompt = "Tom saw a cat. Tom saw a dog. Tom saw a cat. Tom saw a"
    texts = []
    for is_guessing in (False, True):
        params = EngineParams(n_ctx=512, n_batch=64, num_slots=2, has_lookup=is_guessing and by == "lookup")
        draft = stories if is_guessing and by == "draft model" else None
        engine = Engine(stories, params, post=lambda call: call(), draft_model=draft)
        text, finished = generate(engine, prompt, max_tokens=120, sampling=sampling, ignore_eos=True)
        texts.append(text)
        timings, meter = finished.timings, engine.meter()
        assert (timings.num_accepted_tokens > 0) == (timings.num_drafts > 0) == is_guessing
        assert meter.num_drafts == timings.num_drafts
        assert (meter.num_drafted_tokens, meter.num_accepted_tokens) == (
            timings.num_drafted_tokens,
            timings.num_accepted_tokens,
        )
        named = {"lookup": "ngram-simple", "draft model": "draft-simple"}[by]
        assert engine.info.speculation == (named if is_guessing else "none")
        if (
            by == "draft model" and is_guessing and sampling is GREEDY
        ):  # it is the same model: all its guesses are right
            assert finished.timings.num_accepted_tokens == finished.timings.num_drafted_tokens > 60
        engine.close()
    assert texts[0] == texts[1]


def test_a_draft_model_of_another_family_is_refused(stories: Model, smollm2: Path) -> None:
    other = Model(Library(), smollm2)
    with pytest.raises(ModelError, match="another vocabulary"):
        Engine(stories, EngineParams(n_ctx=256), post=lambda call: call(), draft_model=other)
    other.close()
