from typing import Any

import pytest

from runtime.checked import JsonObject
from runtime.engine.values.sampling import DEFAULT_ORDER, Sampler, SamplingParams
from runtime.errors import RequestError
from runtime.server.asking.sampling import read_sampling, read_stop

DEFAULTS = SamplingParams()


def read(**fields: Any) -> SamplingParams:
    return read_sampling(JsonObject(fields), DEFAULTS)


def test_nothing_given_is_the_servers_defaults() -> None:
    assert read() == DEFAULTS
    assert read(temperature=None, logit_bias=None, samplers=None) == DEFAULTS


def test_every_number_has_llama_cpps_name() -> None:
    given = {
        "temperature": 0.1,
        "top_k": 1,
        "top_p": 0.2,
        "min_p": 0.3,
        "typical_p": 0.4,
        "repeat_penalty": 1.5,
        "repeat_last_n": -1,
        "presence_penalty": 0.6,
        "frequency_penalty": 0.7,
        "top_n_sigma": 1.1,
        "xtc_probability": 0.8,
        "xtc_threshold": 0.05,
        "dynatemp_range": 0.9,
        "dynatemp_exponent": 1.2,
        "dry_multiplier": 0.5,
        "dry_base": 1.3,
        "dry_allowed_length": 3,
        "dry_penalty_last_n": 128,
        "mirostat": 2,
        "mirostat_tau": 4.0,
        "mirostat_eta": 0.2,
        "adaptive_target": 0.5,
        "adaptive_decay": 0.8,
        "min_keep": 2,
        "seed": 7,
        "n_probs": 5,
        "post_sampling_probs": True,
    }
    params = read(**given)
    assert {name: getattr(params, name) for name in given} == given


@pytest.mark.parametrize(
    ("given", "order"),
    [
        (["top_k", "temperature"], (Sampler.TOP_K, Sampler.TEMPERATURE)),
        (["Top-K", "temp", "typical_p", "nucleus", "minp"], ("top_k", "temperature", "typ_p", "top_p", "min_p")),
        ("edskypmxt", DEFAULT_ORDER),
        ("ka", (Sampler.TOP_K, Sampler.ADAPTIVE_P)),
        ([], ()),
    ],
)
def test_the_order_of_samplers_is_the_requests(given: object, order: tuple[Any, ...]) -> None:
    names = tuple(each.label if isinstance(each, Sampler) else each for each in order)
    assert tuple(sampler.label for sampler in read(samplers=given).order) == names


@pytest.mark.parametrize(
    "given", ["kk", "ktk", ["temp", "temperature"], ["top_k", "top-k"], "e" * 1500, "t" * 10**6, ["dry"] * 1000]
)
def test_a_sampler_stands_in_the_order_once(given: object) -> None:
    with pytest.raises(RequestError, match="names each sampler once"):
        read(samplers=given)


@pytest.mark.parametrize("given", ["z" * 10**6, ["q" * 10**6]])
def test_the_error_of_an_unknown_sampler_is_short(given: object) -> None:
    with pytest.raises(RequestError) as caught:
        read(samplers=given)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("given", [["top_q"], "kz", 5, [1]])
def test_a_sampler_that_is_none_is_refused(given: object) -> None:
    with pytest.raises(RequestError, match="samplers"):
        read(samplers=given)


@pytest.mark.parametrize(
    ("given", "bias"),
    [
        ({"15": -100, "7": 2.5}, ((15, -100.0), (7, 2.5))),
        ({" Paris": 1}, ((" Paris", 1.0),)),
        ([[15, False], ["no", -1]], ((15, float("-inf")), ("no", -1.0))),
        ({}, ()),
        ([], ()),
    ],
)
def test_logit_bias_comes_in_openais_shape_and_in_llama_cpps(given: object, bias: object) -> None:
    assert read(logit_bias=given).logit_bias == bias


@pytest.mark.parametrize("given", [5, [5], [[1, "x"]], [[1, True]], [[True, 1]], [[1, 2, 3]], {"1": None}])
def test_a_logit_bias_that_makes_no_sense_is_refused(given: object) -> None:
    with pytest.raises(RequestError, match="logit_bias"):
        read(logit_bias=given)


@pytest.mark.parametrize("given", [[[1, 10**308 * 10]], [[1, -(10**308) * 10]], {"1": 1e39}, [["a", -1e39]]])
def test_a_logit_bias_is_a_number_that_llama_cpp_can_add(given: object) -> None:
    with pytest.raises(RequestError, match="logit_bias"):
        read(logit_bias=given)


def test_what_is_done_for_each_of_a_list_is_done_for_so_many_only() -> None:
    most: dict[str, object] = {
        "logit_bias": [[5, 1]] * 10_000,
        "dry_sequence_breakers": ["ab"] * 32,
        "stop": ["ab"] * 256,
    }
    assert len(read(**most).logit_bias) == 10_000
    assert len(read_stop(JsonObject(most))) == 256


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("logit_bias", [[5, 1]] * 10_001),
        ("logit_bias", {str(token): 1 for token in range(10_001)}),
        ("logit_bias", [["a" * 10_001, 1]]),
        ("logit_bias", [["ab", False]] * 5_001),
        ("dry_sequence_breakers", ["ab"] * 33),
    ],
)
def test_a_list_beyond_its_bounds_is_refused(name: str, given: object) -> None:
    with pytest.raises(RequestError, match=f"'{name}' must be at most"):
        read(**{name: given})


@pytest.mark.parametrize("given", [["ab"] * 257, "a" * 16_385, ["a" * 8_000] * 3])
def test_stop_strings_beyond_their_bounds_are_refused(given: object) -> None:
    with pytest.raises(RequestError, match="'stop' must be at most"):
        read_stop(JsonObject({"stop": given}))


@pytest.mark.parametrize("given", [[], ["a\0b"], 5])
def test_sequence_breakers_must_be_texts(given: object) -> None:
    with pytest.raises(RequestError, match="dry_sequence_breakers"):
        read(dry_sequence_breakers=given)
