"""DRY's stages: made once, copied for every chain, and the same as if each were made anew."""

import ctypes
import random
import threading
from dataclasses import replace

import pytest

from runtime.engine.native import DryStages, Model, SamplerChain
from runtime.engine.native.dry import _NUM_KEPT
from runtime.engine.values.sampling import DEFAULT_ORDER, Sampler, SamplingParams

DRY = SamplingParams(
    temperature=0, dry_multiplier=50.0, dry_allowed_length=1, dry_penalty_last_n=-1, order=(Sampler.DRY,)
)


def penalties(stories: Model, chain: SamplerChain, seen: list[int]) -> list[float]:
    """Return the logits that a chain makes of equal ones after having seen these tokens."""
    api, count = stories.library.api, stories.facts.n_vocab
    for token in seen:
        chain.accept(token)
    data = (api.llama_token_data * count)(*(api.llama_token_data(token, 0.0, 0.0) for token in range(count)))
    array = api.llama_token_data_array(data, count, -1, False)
    api.llama_sampler_apply(chain.handle, ctypes.byref(array))
    chain.close()
    return [array.data[place].logit for place in range(array.size)]


@pytest.mark.parametrize("breakers", [("\n", ":", '"', "*"), ("a", "the", "a"), ("Once upon a time", ".", " ")])
def test_a_copy_punishes_what_a_new_stage_punishes(stories: Model, breakers: tuple[str, ...]) -> None:
    chance = random.Random(len(breakers))
    params = replace(DRY, dry_sequence_breakers=breakers)
    stages = DryStages(stories)
    stages.prepare(params)
    found = set()
    for _each in range(20):
        words = stories.tokenize("Once upon a time, the cat: a dog. ", add_special=False, parse_special=False)
        seen = [chance.choice(words) for _place in range(60)]
        copied = penalties(stories, SamplerChain(stories, params, 1, dry=stages), seen)
        assert copied == penalties(stories, SamplerChain(stories, params, 1), seen)
        found.add(tuple(copied))
    assert len(found) > 1
    stages.close()


@pytest.mark.parametrize(("breaker", "is_punished"), [("Timmy", True), ("lo", False), ("l", False), ("ch", False)])
def test_a_breaker_ends_the_phrase_that_is_punished(stories: Model, breaker: str, is_punished: bool) -> None:
    seen = [400, 401, 402, 400, 401]  # " do", " lo", "ch", and again: what comes next in it is punished
    assert penalties(stories, SamplerChain(stories, DRY, 1), seen)[402] < 0
    params = replace(DRY, dry_sequence_breakers=("~", breaker))
    assert (penalties(stories, SamplerChain(stories, params, 1), seen)[402] < 0) is is_punished


def test_what_a_chain_has_seen_is_not_in_the_next_ones(stories: Model) -> None:
    stages = DryStages(stories)
    stages.prepare(DRY)
    seen = [400, 401, 402, 400, 401]
    punished = penalties(stories, SamplerChain(stories, DRY, 1, dry=stages), seen)
    assert min(punished) < 0
    assert not any(penalties(stories, SamplerChain(stories, DRY, 1, dry=stages), []))
    assert penalties(stories, SamplerChain(stories, DRY, 1, dry=stages), seen) == punished
    stages.close()


def test_breakers_are_looked_for_once(stories: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    stages = DryStages(stories)
    new = stages._new
    monkeypatch.setattr(stages, "_new", lambda settings: made.append(settings) or new(settings))
    for _each in range(3):
        stages.prepare(DRY)
        SamplerChain(stories, replace(DRY, order=DEFAULT_ORDER, seed=7, top_k=3), 1, dry=stages).close()
    assert len(made) == 1
    many = [replace(DRY, dry_base=1 + place / 8) for place in range(_NUM_KEPT)]
    for params in many:
        stages.prepare(params)
    stages.prepare(many[0])
    assert len(made) == 1 + _NUM_KEPT
    stages.prepare(DRY)  # the one that was used first had to go
    assert len(made) == 2 + _NUM_KEPT
    stages.close()


def test_threads_prepare_and_copy_at_once(stories: Model) -> None:
    stages = DryStages(stories)
    expected = penalties(stories, SamplerChain(stories, DRY, 1), [400, 401, 400])
    found: list[bool] = []

    def work(number: int) -> None:
        chance = random.Random(number)
        for _each in range(20):
            stages.prepare(replace(DRY, dry_base=1 + chance.randrange(2 * _NUM_KEPT)))
            stages.prepare(DRY)
            found.append(penalties(stories, SamplerChain(stories, DRY, 1, dry=stages), [400, 401, 400]) == expected)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [True] * 120
    stages.close()
