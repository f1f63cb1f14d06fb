from pathlib import Path
from typing import Any

import pytest

from runtime.errors import UsageError
from runtime.program import settings
from runtime.program.options import Settings


def words(*given: str) -> dict[str, object]:
    return settings.from_words(given, origin="command line")


def test_without_anything_the_defaults_are_llama_cpps() -> None:
    plain = settings.read(())
    assert (plain.temperature, plain.top_k, plain.top_p, plain.min_p, plain.repeat_penalty) == (
        0.8,
        40,
        0.95,
        0.05,
        1.0,
    )
    assert (plain.host, plain.port, plain.n_predict, plain.seed) == (("127.0.0.1",), None, -1, -1)


def test_the_flags_of_llama_cpp_and_llamafile_are_understood() -> None:
    line = "-m x.gguf -c 4096 -t 3 -np 2 --max-queue 9 -b 256 -n 100 -ngl 9999 --temp 0.5 --top-k 10"
    more = "--top-p 0.9 --min-p 0.1 --repeat-penalty 1.1 --seed 42 --host 0.0.0.0 --port 8081 --server --nobrowser"
    assert words(*line.split(), *more.split(), "--no-history", "--verbose") == {
        "model": Path("x.gguf"),
        "n_ctx": 4096,
        "n_threads": 3,
        "n_parallel": 2,
        "max_queue": 9,
        "n_batch": 256,
        "n_predict": 100,
        "n_gpu_layers": 9999,
        "temperature": 0.5,
        "top_k": 10,
        "top_p": 0.9,
        "min_p": 0.1,
        "repeat_penalty": 1.1,
        "seed": 42,
        "host": ("0.0.0.0",),
        "port": 8081,
        "server": True,
        "nobrowser": True,
        "no_history": True,
        "verbose": True,
    }


def test_the_flags_of_llama_servers_door_and_endpoints_are_understood() -> None:
    line = "--api-key one,two --api-key-file keys.txt --allowed-hosts a.local, --cors-origins localhost,https://x.y"
    more = "--no-slots --metrics --props --slot-save-path saved --no-webui -a tiny --chat-template chatml"
    assert words(*line.split(), *more.split()) == {
        "api_keys": ("one", "two"),
        "api_key_file": Path("keys.txt"),
        "allowed_hosts": ("a.local",),
        "cors_origins": ("localhost", "https://x.y"),
        "slots": False,
        "metrics": True,
        "props": True,
        "slot_save_path": Path("saved"),
        "ui": False,
        "alias": ("tiny",),
        "chat_template": "chatml",
    }
    assert words("-no-kvu", "--tags", "a,b") == {"kv_unified": False, "tags": ("a", "b")}
    assert words("--no_kv_unified", "--host", "127.0.0.1,::1") == {"kv_unified": False, "host": ("127.0.0.1", "::1")}
    assert words("--slots", "--ui") == {"slots": True, "ui": True}
    in_environment = {"LLAMA_API_KEY": "k1, k2", "LLAMA_ARG_ENDPOINT_METRICS": "1", "LLAMA_ARG_ALIAS": "My model"}
    assert settings.read((), in_environment) == Settings(api_keys=("k1", "k2"), metrics=True, alias=("My model",))
    assert settings.from_mapping({"cors_origins": ["https://x.y"]}, origin="manifest") == {
        "cors_origins": ("https://x.y",)
    }
    with pytest.raises(UsageError, match="manifest: cors_origins: 5 is not a list of texts"):
        settings.from_mapping({"cors_origins": 5}, origin="manifest")


def test_flags_that_ask_for_what_is_so_anyway_change_nothing() -> None:
    assert words("--offline", "-cb", "--cont-batching", "--backend_sampling", "--jinja", "--no-jinja") == {}
    assert "--offline" not in settings.help_text("model")


@pytest.mark.parametrize("word", ["auto", "all", "-1"])
def test_gpu_layers_may_be_a_word(word: str) -> None:
    assert words("-ngl", word) == {"n_gpu_layers": -1}


def test_help_and_version_are_flags_like_others() -> None:
    assert words("-h") == {"show_help": True}
    assert words("--version") == {"show_version": True}
    said = " ".join(settings.help_text("model").split())
    assert "--ctx-size" in said
    assert (
        "--repeat-penalty X By how much the logits of the last 64 tokens are divided; 1 is off. [default: 1.0" in said
    )
    assert "--keep N Tokens of the prompt that a context shift keeps; -1 is all. [default: 0; x>=-1]" in said
    assert "--server Accepted for llamafile's command lines; serving is the default. --nobrowser" in said


@pytest.mark.parametrize(
    ("typed", "nearest"),
    [("--prot", "--port"), ("--nobrowsr", "--nobrowser"), ("--ctx-sise=5", "--ctx-size"), ("-xgl", "-ngl")],
)
def test_an_unknown_flag_suggests_the_nearest_one(typed: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=f"no flag {typed.split('=')[0]}, did you mean {nearest}"):
        words(typed, "1")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--port", "x"), "'--port'.*'x'"),
        (("--port", "70000"), "'--port'"),
        (("--top-p", "2"), "'--top-p'"),
        (("--temp",), "'--temp' requires an argument"),
        (("model.gguf",), "unexpected extra argument"),
        (("-ngl", "many"), "'many' is not a valid integer"),
    ],
    ids=["no number", "no port", "no fraction", "no value", "stray word", "no count"],
)
def test_a_value_that_cannot_be_used_is_one_line(given: tuple[str, ...], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        words(*given)
    assert str(caught.value).startswith("command line: ")
    assert "\n" not in str(caught.value)


def test_the_environment_bears_llama_cpps_names() -> None:
    environment = {"LLAMA_ARG_PORT": "9000", "LLAMA_ARG_CTX_SIZE": "", "PATH": "/bin"}
    assert settings.read((), environment) == Settings(port=9000)
    with pytest.raises(UsageError, match=r"^\$LLAMA_ARG_PORT: 'x' is not a valid integer range$"):
        settings.read((), {"LLAMA_ARG_PORT": "x"})


def test_only_the_environment_that_is_handed_in_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLAMA_ARG_PORT", "9000")
    assert settings.read(()).port is None
    assert words() == {}


def test_a_manifest_is_checked_like_a_command_line() -> None:
    assert settings.from_mapping({"temperature": 0.2, "n_ctx": 2048}, origin="manifest") == {
        "temperature": 0.2,
        "n_ctx": 2048,
    }
    with pytest.raises(UsageError, match="manifest: there is no setting called 'temprature'"):
        settings.from_mapping({"temprature": 1}, origin="manifest")
    with pytest.raises(UsageError, match=r"^manifest: top_p: 7\.0 is not in the range 0<=x<=1$"):
        settings.from_mapping({"top_p": 7}, origin="manifest")


LAYERS = {
    "manifest": {"n_ctx": 1, "top_k": 1, "n_predict": 1, "seed": 1, "lora": ["m.gguf"]},
    "args": ["--top-k", "2", "--predict", "2", "--temp", "0.2", "--lora", "a.gguf,b.gguf"],
    "environment": {"LLAMA_ARG_N_PREDICT": "3", "LLAMA_ARG_TEMPERATURE": "0.3"},
}


def test_each_layer_covers_the_ones_below() -> None:
    merged = settings.read(["--temp", "0.4"], **LAYERS)
    assert merged == Settings(n_ctx=1, top_k=2, n_predict=3, temperature=0.4, seed=1, lora=("a.gguf", "b.gguf"))
    assert settings.read(["--lora", "c.gguf"], **LAYERS).lora == ("c.gguf",)
    # A switch can be turned off again, and on.
    assert settings.read(["--slots"], {"LLAMA_ARG_ENDPOINT_SLOTS": "0"}, args=["--no-ui"]) == Settings(ui=False)
    assert settings.read([], {"LLAMA_ARG_UI": "1"}, args=["--no-ui", "--no-slots"]) == Settings(slots=False)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"manifest": {"top_k": 0.5}}, "manifest: top_k: 0.5 is not a whole number"),
        ({"args": ["--port", "x"]}, ".args: Invalid value for '--port': 'x' is not a valid integer range"),
        ({"args": ["--prot", "1"]}, ".args: there is no flag --prot, did you mean --port?"),
        ({"args": ["--version"]}, ".args: --version ends the program, so it can't be a default; leave it out"),
        ({"args": ["-h"]}, ".args: --help ends the program, so it can't be a default; leave it out"),
        ({"environment": {"LLAMA_ARG_CTX_SIZE": "-1"}}, "$LLAMA_ARG_CTX_SIZE: -1 is not in the range x>=0"),
        (
            {"words": ["--min-p", "nan"]},
            "command line: Invalid value for '--min-p': 'nan' is not a number to compute with",
        ),
    ],
    ids=["manifest", "args value", "args flag", "args version", "args help", "environment", "command line"],
)
def test_an_error_names_its_layer(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError) as caught:
        settings.read(**{"words": [], **wrong})
    assert str(caught.value).removesuffix("; see --help") == said


@pytest.mark.parametrize(
    ("words", "environment", "args", "is_verbose"),
    [
        (["--port", "x"], {}, [], False),
        (["--verbose", "--port", "x"], {}, [], True),
        (["--prot", "1", "-v"], {}, [], True),
        (["-vc4096", "--port"], {}, [], True),
        (["-vc", "-5"], {}, [], True),
        (["--port", "x"], {}, ["-c", "5", "-v"], True),
        (["--port", "x"], {}, ["--prot", "-vc4096"], True),
        ([], {"LLAMA_ARG_VERBOSE": "1"}, [], True),
        ([], {"LLAMA_ARG_VERBOSE": "0"}, ["-v"], False),
        ([], {"LLAMA_ARG_VERBOSE": "perhaps"}, [], False),
        (["--alias", "-v"], {}, [], False),
    ],
)
def test_verbose_is_heard_wherever_it_is_said(
    words: list[str], environment: dict[str, str], args: list[str], is_verbose: bool
) -> None:
    assert settings.is_verbose(words, environment, args) is is_verbose


def test_llama_server_s_flags_for_vectors_and_ranks_are_understood() -> None:
    assert words("--embeddings", "--reranking", "--pooling", "cls", "--embd-normalize", "-1") == {
        "pooling": "cls",
        "embd_normalize": -1,
    }


def test_a_flag_for_a_list_that_is_given_twice_adds_up() -> None:
    assert words("--lora", "a.gguf", "--lora", "b.gguf,c.gguf", "--api-key", "k1", "--api-key=k2") == {
        "lora": ("a.gguf", "b.gguf", "c.gguf"),
        "api_keys": ("k1", "k2"),
    }


def test_llama_server_s_flags_for_thinking_are_understood() -> None:
    line = ["--reasoning", "off", "--reasoning-format", "none", "--reasoning-budget", "0"]
    assert words(*line, "--chat-template-kwargs", '{"enable_thinking": false}') == {
        "reasoning": "off",
        "reasoning_format": "none",
        "reasoning_budget": "0",
        "chat_template_kwargs": {"enable_thinking": False},
    }
    with pytest.raises(UsageError, match="is not a JSON object"):
        words("--chat-template-kwargs", "[1]")
