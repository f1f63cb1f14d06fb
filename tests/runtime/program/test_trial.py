"""Models from outside are used in a child first."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime.child import Child
from runtime.errors import ModelError
from runtime.extent import Extent
from runtime.program import first_use
from runtime.program.trial import NotTried, Trial
from runtime.sandbox import landlock
from tests.gguf_mutants import STRING, Model, Value, parse, write
from tests.tiny_models import write_adapter, write_encoder, write_windowed
from tests.tiny_projectors import Projecting, write_projector, write_text_model

ROOT = Path(__file__).parents[3]
TIMEOUT_SECONDS = 120


def whole(path: Path) -> Extent:
    return Extent(path, 0, path.stat().st_size)


def equal_tokens(model: Model) -> None:
    tokens = next(value for key, value in model.entries if key == b"tokenizer.ggml.tokens").data
    tokens[300] = tokens[301]


def no_byte_tokens(model: Model) -> None:
    tokens = next(value for key, value in model.entries if key == b"tokenizer.ggml.tokens").data
    tokens[:] = [b"gone %d" % i if token.startswith(b"<0x") else token for i, token in enumerate(tokens)]


def tensor_of_type(name: bytes, kind: int) -> Callable[[Model], None]:
    def change(model: Model) -> None:
        for tensor in model.tensors:
            tensor.kind = kind if tensor.name.endswith(name) else tensor.kind

    return change


def bert_without_its_tokens(model: Model) -> None:
    model.entries = [(k, Value(STRING, b"bert") if k == b"tokenizer.ggml.model" else v) for k, v in model.entries]


def weights_that_are_no_numbers(model: Model) -> None:
    model.data = b"\xff" * len(model.data)


CRASHES: dict[str, Callable[[Model], None]] = {
    "two tokens alike": equal_tokens,
    "no byte tokens": no_byte_tokens,
    "a norm of type I32": tensor_of_type(b"attn_norm.weight", 26),
    "attn_v of type I32": tensor_of_type(b"attn_v.weight", 26),
    "bert without its tokens": bert_without_its_tokens,
}


@pytest.mark.parametrize("crash", CRASHES)
def test_a_model_that_ends_llama_cpp_is_one_line(stories260k: Path, tmp_path: Path, crash: str) -> None:
    model = parse(stories260k.read_bytes())
    CRASHES[crash](model)
    path = tmp_path / "bad.gguf"
    path.write_bytes(write(model))
    with pytest.raises(ModelError) as caught:
        Trial(whole(path)).finish()
    said = str(caught.value)
    assert said.startswith(f"{path}: this model can't be used: llama.cpp ended with SIG")
    assert len(said.splitlines()) == 1
    assert len(said) < len(str(path)) + 400


def test_a_model_whose_answers_are_no_numbers_is_refused(stories260k: Path, tmp_path: Path) -> None:
    model = parse(stories260k.read_bytes())
    weights_that_are_no_numbers(model)
    (tmp_path / "bad.gguf").write_bytes(write(model))
    with pytest.raises(ModelError, match=r"bad.gguf can't be used: the model's weights are damaged"):
        Trial(whole(tmp_path / "bad.gguf")).finish()


def test_what_llama_cpp_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    path = tmp_path / "no.gguf"
    path.write_bytes(b"GGUF" + bytes(60))
    with pytest.raises(ModelError, match=f"^can't load the model in {path}: "):
        Trial(whole(path)).finish()


@pytest.mark.parametrize(
    "kind", ["generates", "with companions", "sees", "hears", "embeds", "ranks", "has a window", "inside a file"]
)
def test_good_models_pass(stories260k: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "m.gguf"
    match kind:
        case "generates":
            Trial(whole(stories260k)).finish()
        case "with companions":
            adapter = whole(write_adapter(path, stories260k))
            Trial(whole(stories260k), draft=whole(stories260k), adapters=[adapter]).finish()
        case "sees" | "hears":
            projecting = Projecting.TILED if kind == "sees" else Projecting.SOUND
            projector = whole(write_projector(tmp_path / "mmproj.gguf", projecting))
            Trial(whole(write_text_model(path)), projector=projector).finish()
        case "inside a file":
            path.write_bytes(bytes(65536) + stories260k.read_bytes() + bytes(100))
            Trial(Extent(path, 65536, stories260k.stat().st_size)).finish()
        case "embeds":
            Trial(whole(write_encoder(path))).finish()
        case "ranks":
            Trial(whole(write_encoder(path, ranks=True))).finish()
        case "has a window":
            Trial(whole(write_windowed(path, window=16))).finish()


def test_a_companion_that_ends_llama_cpp_is_the_one_that_is_blamed(stories260k: Path, tmp_path: Path) -> None:
    model = parse(stories260k.read_bytes())
    equal_tokens(model)
    draft = tmp_path / "draft.gguf"
    draft.write_bytes(write(model))
    with pytest.raises(ModelError, match=f"^{draft}: this model can't be used: llama.cpp ended with SIGABRT"):
        Trial(whole(stories260k), draft=whole(draft), blamed=[draft]).finish()


def test_a_program_that_does_not_start_says_nothing_of_the_model(stories260k: Path) -> None:
    for program in (["/no/such/program"], ["false"]):
        with pytest.raises(NotTried):
            Trial(whole(stories260k), program=program).finish()


def test_the_program_ends_in_words_with_a_model_that_cannot_be_used(stories260k: Path, tmp_path: Path) -> None:
    model = parse(stories260k.read_bytes())
    no_byte_tokens(model)
    path = tmp_path / "bad.gguf"
    path.write_bytes(write(model))
    command = [sys.executable, "-m", "runtime", "-m", str(path), "--port", "0", "--server", "--no-history"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    assert ended.returncode == 4
    assert ended.stderr.splitlines()[-1].startswith(f"error: {path}: this model can't be used: llama.cpp ended with")


def use_and_read(request: bytes) -> bytes:
    """In a child: try a model, and then what somebody would who has taken over the process that reads it."""
    answer = first_use.use(request)
    try:
        return answer + Path(json.loads(request)["secret"]).read_bytes()
    except PermissionError:
        return answer + b"refused"


@pytest.mark.skipif(landlock.abi_version() == 0, reason="this kernel has no Landlock, which guards the files")
@pytest.mark.parametrize(("is_sandboxed", "found"), [(True, b"refused"), (False, b"Dear diary")])
def test_a_file_from_outside_is_read_where_nothing_else_can_be(
    stories260k: Path, tmp_path: Path, is_sandboxed: bool, found: bytes
) -> None:
    (tmp_path / "secret").write_bytes(b"Dear diary")
    trial = Trial(whole(stories260k), is_sandboxed=is_sandboxed)
    trial.finish()
    child = Child(f"{__name__}:use_and_read")
    request = {**trial._request, "secret": str(tmp_path / "secret")}
    assert child.ask(json.dumps(request).encode(), 60) == found
    child.close()
