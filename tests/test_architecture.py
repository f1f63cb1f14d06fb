"""The import arrows of the design, held."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Layers, lowest first. A module may import from its own layer or from a layer before it in this list; layers of one
# line don't know each other.
LAYERS = [
    ["runtime.errors"],
    ["runtime.options"],
    ["runtime.container", "runtime.settings", "runtime.launch"],
    ["runtime.engine", "runtime.store"],
    ["runtime.chat"],
    ["runtime.server"],
    ["runtime.cli"],
    ["runtime.__main__"],
]
BUNDLER_MAY_IMPORT = {"runtime.container", "runtime.errors"}
ONLY_LLAMA_IMPORTER = "runtime.engine.native"
ONLY_PYINSTALLER_USER = "bundler.freeze"
DIALECTS = ("llamacpp", "openai", "ollama", "anthropic")  # a dialect's modules are named by it: ollama, ollama_models
# What only computes: no llama.cpp, no event loop, no thread.
PURE = {
    *("batch", "facts", "gbnf", "grammar", "media", "memory", "pace", "parking", "sampling", "schema", "scheduler"),
    *("png", "sequence", "slots", "speculation", "text"),
}
PURE_MODULES = {f"runtime.engine.{name}" for name in PURE} | {
    *("runtime.server.streaming", "runtime.store.chat", "runtime.store.documents", "runtime.store.search"),
}
IMPURE = {"llama_cpp", "ctypes", "asyncio", "threading", "socket", "sqlite3"}
MAX_LINES = 500  # a prompt to ask whether a module holds two ideas, not a law

MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for package in ("runtime", "bundler")
    for path in sorted((ROOT / package).rglob("*.py"))
    if path.name != "__init__.py"
}
RUNTIME = [module for module in MODULES if module.startswith("runtime.")]
BUNDLER = [module for module in MODULES if module.startswith("bundler.")]


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Every node but those under `if TYPE_CHECKING:`, which never import."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from run_time_nodes(child)


def imports(source: str) -> set[str]:
    """The modules that a source imports, by their full names, wherever in it the import stands."""
    found = set()
    for node in run_time_nodes(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            # `from package import module` names a module; `from module import name` names the module alone.
            found.update({name for name in names if name in MODULES} or {node.module})
    return found


def imports_of(module: str) -> set[str]:
    return imports(MODULES[module].read_text(encoding="utf-8"))


def layer(module: str) -> int | None:
    for depth, prefixes in enumerate(LAYERS):
        if any(module == prefix or module.startswith(f"{prefix}.") for prefix in prefixes):
            return depth
    return None


def test_both_packages_are_seen() -> None:
    assert "runtime.engine.native.context" in RUNTIME
    assert "bundler.weld" in BUNDLER


def test_an_import_inside_a_function_counts_and_one_for_types_does_not() -> None:
    source = (
        "if TYPE_CHECKING:\n    import a\ndef f():\n    import b.c\n    from runtime.engine import engine, nothing\n"
    )
    assert imports(source) == {"b.c", "runtime.engine.engine"}


@pytest.mark.parametrize("module", RUNTIME)
def test_runtime_imports_point_downwards(module: str) -> None:
    here = layer(module)
    assert here is not None, f"{module} has no layer: name one in LAYERS"
    siblings = [prefix for prefix in LAYERS[here] if not module.startswith(prefix)]
    for name in imports_of(module):
        assert not name.startswith("bundler"), f"{module} ships inside the executable; it cannot import {name}"
        depth = layer(name)
        assert depth is None or depth <= here, f"{module} (layer {here}) imports {name} (layer {depth})"
        assert not any(name.startswith(sibling) for sibling in siblings), f"{module} and {name} don't know each other"


@pytest.mark.parametrize("module", BUNDLER)
def test_bundler_shares_only_the_container_format(module: str) -> None:
    for name in imports_of(module):
        if name.startswith("runtime."):
            assert name in BUNDLER_MAY_IMPORT, f"{module} imports {name}"


def dialect(module: str) -> str | None:
    name = module.removeprefix("runtime.server.")
    return next((each for each in DIALECTS if name == each or name.startswith(f"{each}_")), None)


@pytest.mark.parametrize("module", [module for module in RUNTIME if dialect(module)])
def test_a_dialect_knows_no_other(module: str) -> None:
    assert {dialect(name) for name in imports_of(module)} <= {None, dialect(module)}


@pytest.mark.parametrize("module", sorted(PURE_MODULES))
def test_what_only_computes_knows_no_thread_loop_or_library(module: str) -> None:
    assert not {name.split(".")[0] for name in imports_of(module)} & IMPURE


@pytest.mark.parametrize(
    ("package", "only_user"),
    [
        ("llama_cpp", ONLY_LLAMA_IMPORTER),
        ("llguidance", "runtime.engine.guidance"),
        ("sqlite3", "runtime.store"),
        ("PyInstaller", ONLY_PYINSTALLER_USER),
    ],
)
def test_one_place_talks_to_it(package: str, only_user: str) -> None:
    users = {module for module in MODULES if any(name.split(".")[0] == package for name in imports_of(module))}
    assert all(user == only_user or user.startswith(f"{only_user}.") for user in users), users


def test_building_needs_nothing_but_the_standard_library() -> None:
    source = (ROOT / "build.py").read_text(encoding="utf-8")
    standard = {"hashlib", "importlib", "shutil", "subprocess", "sys", "time", "collections", "pathlib"}
    assert {name.split(".")[0] for name in imports(source)} <= standard


@pytest.mark.parametrize("module", MODULES)
def test_module_fits_in_the_head(module: str) -> None:
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{module} is {lines} lines; split it by concept"
