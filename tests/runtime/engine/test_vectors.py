"""Vectors of real and of tiny models; what llama-server gives for the same texts was compared by hand."""

import math
import queue
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.engine import vectors as vectors_module
from runtime.engine.engine import Engine
from runtime.engine.native import Library, Model
from runtime.engine.policy.memory import Memory
from runtime.engine.values.embedding import EmbeddingJob, Vectors, normalized
from runtime.engine.values.facts import Pooling
from runtime.engine.values.params import EngineParams
from runtime.engine.values.sampling import SamplingParams
from runtime.errors import QueueFull, RequestError, TextTooLong, Unavailable
from tests.asking import request_for
from tests.tiny_models import write_encoder, write_with_context_length

Start = Callable[..., Engine]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[tuple[Engine, Model]] = []

    def start(path: Path, **params: object) -> Engine:
        model = Model(Library(), path)
        engine = Engine(model, EngineParams(**{"n_ctx": 512, "n_batch": 64, **params}), post=lambda call: call())  # type: ignore[arg-type]
        running.append((engine, model))
        return engine

    yield start
    for engine, model in running:
        engine.close()
        model.close()


def embed(engine: Engine, *texts: str) -> list[Vectors]:
    return embed_tokens(
        engine, *(engine.vocabulary.tokenize(text, add_special=True, parse_special=False) for text in texts)
    )


def embed_tokens(engine: Engine, *texts: list[int]) -> list[Vectors]:
    heard: queue.Queue[EmbeddingJob | Exception] = queue.Queue()
    engine.embed(EmbeddingJob(texts, heard.put))
    outcome = heard.get(timeout=30)
    assert isinstance(outcome, EmbeddingJob), outcome
    return outcome.results


def vectors(engine: Engine, *texts: str) -> list[list[float]]:
    return [result[0] for result in embed(engine, *texts)]


def cosine(a: list[float], b: list[float]) -> float:
    return math.fsum(x * y for x, y in zip(normalized(a, 2), normalized(b, 2), strict=True))


STORY = "Once upon a time there was a little girl who had a red ball. " * 6


@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.LAST, Pooling.CLS, Pooling.NONE])
def test_a_text_in_chunks_has_the_vector_that_it_has_whole(start: Start, stories260k: Path, pooling: Pooling) -> None:
    in_chunks = embed(start(stories260k, n_batch=64, pooling=pooling), STORY)[0]
    # A sequence that generates makes the steps smaller still; one that is alone takes up to 512 tokens.
    beside = start(stories260k, pooling=pooling)
    beside.submit(request_for((1, 2, 3), sampling=SamplingParams(temperature=0), ignore_eos=True), lambda event: None)
    assert len(in_chunks) == len(whole := embed(beside, STORY)[0])
    assert all(cosine(a, b) > 0.9999 for a, b in zip(in_chunks, whole, strict=True))


def test_texts_computed_together_have_the_vectors_they_have_alone(start: Start, stories260k: Path) -> None:
    engine = start(stories260k)
    texts = ["A cat", "The sea was blue and wide", "Tom", STORY, "A cat"]
    together = vectors(engine, *texts)
    alone = [vectors(engine, text)[0] for text in texts]
    assert all(cosine(a, b) > 0.9999 for a, b in zip(together, alone, strict=True))
    assert cosine(together[0], together[4]) > 0.9999
    assert cosine(together[0], together[1]) < 0.999


def test_a_chat_model_has_the_mean_by_default_and_one_vector_a_token_without_pooling(
    start: Start, stories260k: Path
) -> None:
    tokens = embed(start(stories260k, pooling=Pooling.NONE), "The cat sat")[0]
    mean = vectors(start(stories260k), "The cat sat")[0]
    assert len(tokens) > 3
    by_hand = [math.fsum(column) / len(tokens) for column in zip(*tokens, strict=True)]
    assert cosine(mean, by_hand) > 0.9999


@pytest.mark.parametrize("says_causal", [True, False], ids=["says so", "doesn't say so"])
def test_an_encoder_gives_vectors_and_refuses_to_generate(start: Start, tmp_path: Path, says_causal: bool) -> None:
    engine = start(write_encoder(tmp_path / "bert.gguf", says_causal=says_causal))
    cat, dog, again = vectors(engine, "a cat", "a dog", "a cat")
    assert len(cat) == 32
    assert cosine(cat, again) > 0.9999 > cosine(cat, dog)
    with pytest.raises(RequestError, match="makes embeddings only"):
        engine.submit(request_for((1, 2)), lambda event: None)


def test_a_ranking_model_gives_each_pair_a_number(start: Start, tmp_path: Path) -> None:
    engine = start(write_encoder(tmp_path / "rank.gguf", ranks=True))
    assert engine.can_rank
    assert engine.vocabulary.pair("a", "cat") == [
        2,
        5,
        3,
        3,
        9,
        3,
    ]  # as llama-server puts them: EOS and SEP, which are one here
    results = embed_tokens(
        engine, engine.vocabulary.pair("a cat", "b dog"), engine.vocabulary.pair("a cat", "sea lamp")
    )
    assert [len(result[0]) for result in results] == [1, 1]
    assert results[0] != results[1]


def test_a_model_without_the_layers_for_it_does_not_rank(start: Start, stories260k: Path, tmp_path: Path) -> None:
    claims = write_encoder(tmp_path / "claims.gguf", ranks=True, has_head=False)
    for engine in (start(claims), start(stories260k, pooling=Pooling.RANK), start(stories260k)):
        assert not engine.can_rank


def test_a_short_text_does_not_wait_for_all_texts_of_another_job(start: Start, stories260k: Path) -> None:
    engine = start(stories260k)
    ended: queue.Queue[str] = queue.Queue()
    engine.embed(EmbeddingJob([[5] * 500] * 50, lambda outcome: ended.put("library")))
    engine.embed(EmbeddingJob([[5] * 4], lambda outcome: ended.put("question")))
    assert [ended.get(timeout=30), ended.get(timeout=30)] == ["question", "library"]


def test_jobs_that_take_turns_keep_their_vectors_apart(start: Start, stories260k: Path) -> None:
    engine = start(stories260k, n_ctx=2048, pooling=Pooling.MEAN)
    # Long ones are computed in chunks; the second job's need a larger context than the first one's.
    jobs = [[[5 + i] * 300 for i in range(4)] + [[9]], [[20 + i] * 900 for i in range(3)]]
    heard: queue.Queue[EmbeddingJob | Exception] = queue.Queue()
    for texts in jobs:
        engine.embed(EmbeddingJob(texts, heard.put))
    for outcome in (heard.get(timeout=30), heard.get(timeout=30)):
        assert isinstance(outcome, EmbeddingJob), outcome
        for text, result in zip(outcome.texts, outcome.results, strict=True):
            assert cosine(result[0], embed_tokens(engine, list(text))[0][0]) > 0.9999


def test_no_more_jobs_wait_than_may(start: Start, stories260k: Path) -> None:
    engine = start(stories260k, max_waiting=2)
    for _ in range(2):
        engine.embed(EmbeddingJob([[5] * 500] * 50, lambda outcome: None))
    with pytest.raises(QueueFull):
        engine.embed(EmbeddingJob([[5]], lambda outcome: None))


def test_without_memory_a_job_fails_in_words_and_a_later_one_does_not(
    start: Start, stories260k: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start(stories260k)
    heard: queue.Queue[EmbeddingJob | Exception] = queue.Queue()
    with monkeypatch.context() as patched:
        patched.setattr(vectors_module, "read_memory", lambda: Memory(total=1000, free=1000))
        engine.embed(EmbeddingJob([[5]], heard.put))
        outcome = heard.get(timeout=30)
        assert isinstance(outcome, Unavailable)
        assert "no memory for a text of 1 tokens" in str(outcome)
    assert vectors(engine, "A cat")


def test_what_can_not_be_computed_is_refused_with_the_numbers(start: Start, stories260k: Path) -> None:
    engine = start(stories260k)
    for texts, message in (([[]], r"docs\[0\] is empty"), ([[1], [9999]], r"docs\[1\] has token ids outside")):
        with pytest.raises(RequestError, match=message) as refusal:
            engine.embed(EmbeddingJob(texts, lambda outcome: None, "docs"))
        assert refusal.value.param == "docs"
    with pytest.raises(TextTooLong, match=r"input\[1\] has 513 tokens, but a text may have 512") as refusal:
        engine.embed(EmbeddingJob([[1], [1] * 513], lambda outcome: None))
    assert (refusal.value.num_prompt_tokens, refusal.value.n_ctx) == (513, 512)
    assert len(embed_tokens(engine, [1] * 512)[0]) == 1


def test_a_cancelled_job_is_not_heard_of_and_the_next_one_is(start: Start, stories260k: Path) -> None:
    engine = start(stories260k, n_ctx=2048)
    heard: queue.Queue[EmbeddingJob | Exception] = queue.Queue()
    job = EmbeddingJob([[1] * 2000] * 40, heard.put)
    engine.embed(job)
    job.is_cancelled = True
    assert vectors(engine, "A cat")
    assert heard.empty()


def test_streams_go_on_while_a_long_text_is_computed(start: Start, stories260k: Path) -> None:
    engine = start(stories260k, n_ctx=2048)
    order: queue.Queue[str] = queue.Queue()
    engine.submit(request_for((1, 2, 3), ignore_eos=True, max_tokens=400), lambda event: order.put("token"))
    engine.embed(EmbeddingJob([[5] * 2000], lambda outcome: order.put("vector")))
    before = 0
    while order.get(timeout=30) == "token":
        before += 1
    assert before >= 20  # of 2,000 tokens, 64 at a time beside it


def test_closing_tells_those_who_wait(stories260k: Path) -> None:
    model = Model(Library(), stories260k)
    engine = Engine(model, EngineParams(n_ctx=2048), post=lambda call: call())
    heard: queue.Queue[EmbeddingJob | Exception] = queue.Queue()
    for _ in range(3):
        engine.embed(EmbeddingJob([[1] * 2000] * 40, heard.put))
    engine.close()
    assert all(isinstance(heard.get(timeout=10), Unavailable) for _ in range(3))
    with pytest.raises(Unavailable):
        engine.embed(EmbeddingJob([[1]], heard.put))
    model.close()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [(-1, [3.0, -4.0]), (0, [24570.0, -32760.0]), (1, [3 / 7, -4 / 7]), (2, [0.6, -0.8]), (3, [0.6669, -0.8892])],
)
def test_norms(kind: int, expected: list[float]) -> None:
    assert normalized([3.0, -4.0], kind) == pytest.approx(expected, rel=1e-3)
    assert normalized([0.0, 0.0], kind) == [0.0, 0.0]


def test_no_power_is_too_high_for_a_large_number() -> None:
    assert normalized([1e30, -1e30, 1.0], 1000) == pytest.approx([1.0, -1.0, 0.0], rel=1e-2, abs=1e-9)


@pytest.mark.parametrize("n_ctx", [5, 31, 100, 127, 200, 255, 257, 300, 511])
def test_a_model_of_any_length_gives_vectors(start: Start, stories260k: Path, tmp_path: Path, n_ctx: int) -> None:
    """llama.cpp ends the process when its largest batch can't be divided by the number of texts."""
    engine = start(write_with_context_length(tmp_path / "odd.gguf", stories260k, n_ctx))
    assert engine.max_text_tokens == n_ctx
    longest, shorter = embed_tokens(engine, [5] * n_ctx, [5] * (n_ctx // 2))
    assert len(longest) == len(shorter) == 1
