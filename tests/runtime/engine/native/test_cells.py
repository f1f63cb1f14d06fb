"""Where conversations lie in the KV cache; bundler/llamacpp/patches see to it."""

import ctypes
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engine.native import Context, Library, Model
from runtime.engine.values.edits import BatchEntry
from tests.tiny_models import write_windowed


class WindowedContext(Context):
    """Where only some layers look at all tokens, the others keep but those in their window."""

    def _adapt(self, params: ctypes.Structure) -> None:
        params.swa_full = False


@pytest.fixture(scope="module")
def library() -> Library:
    return Library()


@pytest.fixture(scope="module")
def model(library: Library, stories260k: Path) -> Iterator[Model]:
    model = Model(library, stories260k)
    yield model
    model.close()


@pytest.fixture(scope="module")
def windowed(library: Library, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    model = Model(library, write_windowed(tmp_path_factory.mktemp("models") / "windowed.gguf", window=32))
    yield model
    model.close()


def chosen(count: int, seed: int) -> list[int]:
    return random.Random(seed).choices(range(5, 260), k=count)


def decode(context: Context, tokens: list[int], slot: int, start: int = 0) -> bytes:
    last = len(tokens) - 1
    context.decode([BatchEntry(token, start + place, slot, place == last) for place, token in enumerate(tokens)])
    return context.logits(last).tobytes()


def go_on(context: Context, prompt: list[int], slot: int, *, leaves: int | None = None) -> list[bytes]:
    """Return the logits behind a prompt and behind each of twenty tokens that follow it.

    In between, the conversation in the slot `leaves` goes away.
    """
    found = [decode(context, prompt, slot)]
    if leaves is not None:
        context.cut(leaves, 0)
    return found + [decode(context, [token], slot, len(prompt) + place) for place, token in enumerate(chosen(20, 9))]


@pytest.mark.parametrize("num_tokens", [50, 150])  # ggml computes 64 and more in another way
def test_where_a_conversation_lies_among_others_makes_no_difference(model: Model, num_tokens: int) -> None:
    prompt = chosen(num_tokens, 1)
    context = Context(model, n_ctx=768, n_batch=256, num_slots=3, num_threads=2)
    alone = go_on(context, prompt, slot=0)
    context.close()
    context = Context(model, n_ctx=768, n_batch=256, num_slots=3, num_threads=2)
    decode(context, chosen(100, 2), slot=0)
    decode(context, chosen(30, 3), slot=1)
    assert go_on(context, prompt, slot=2, leaves=0) == alone  # what comes free lies before it
    context.cut(2, 0)
    assert go_on(context, prompt, slot=2) == alone
    context.close()


def test_what_a_window_has_passed_stays_while_there_is_room(windowed: Model) -> None:
    """A shift may bring it back into the window."""
    found = []
    for others in (0, 1, 2):
        context = Context(windowed, n_ctx=512, n_batch=256, num_slots=3, num_threads=1)
        decode(context, chosen(200, 1), slot=0)
        for slot in range(others):
            decode(context, chosen(100, 2), slot=1 + slot)
        context.shift(0, 20, 150)
        decode(context, [7], slot=0, start=50)
        found.append(context.logits(0).tolist())
        context.close()
    assert found[1] == pytest.approx(found[0], abs=1e-3)
    assert found[2] == pytest.approx(found[0], abs=1e-3)


def test_what_a_window_has_passed_makes_room(windowed: Model) -> None:
    found = []
    for kind in (Context, WindowedContext):
        context = kind(windowed, n_ctx=1024, n_batch=64, num_slots=1, num_threads=1)
        for start in range(0, 960, 64):  # more than the window's layers keep
            decode(context, chosen(64, start), slot=0, start=start)
        found.append(context.logits(63).tolist())
        context.close()
    assert found[1] == pytest.approx(found[0], abs=1e-3)
