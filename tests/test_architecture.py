"""The house's rules, by place: what a folder may know. A new module is under the rule of where it lies."""

import sys

import pytest

from tests.structure import ROOT, circles, import_graph, imports, modules_below, num_code_lines

MODULES = {**modules_below(ROOT / "runtime"), **modules_below(ROOT / "bundler")}
GRAPH = import_graph(MODULES)
GRAPH_WITH_TYPING = import_graph(MODULES, with_typing=True)

# Each place, and the places that it may import from beside itself. The longest name that fits a module is its place.
MAY_IMPORT = {
    "runtime": set(),  # the version
    "runtime.__main__": {"runtime.program"},
    "runtime.errors": set(),
    "runtime.extent": set(),
    "runtime.nursery": {"runtime.sandbox"},
    "runtime.checked": set(),
    "runtime.child": set(),
    "runtime.printable": set(),
    "runtime.container": {"runtime.errors"},
    "runtime.sandbox": set(),
    "runtime.program": {
        *("runtime.program.options", "runtime.program.settings", "runtime.program.trial"),
        *("runtime.server", "runtime.chat", "runtime.store", "runtime.container", "runtime.sandbox"),
        *("runtime.engine", "runtime.engine.values"),
    },
    # What a bundle understands is part of its format: the bundler reads recipes with these two.
    "runtime.program.options": {"runtime.engine.values"},
    "runtime.program.settings": {"runtime.program.options"},
    "runtime.program.trial": set(),
    "runtime.store": set(),
    "runtime.chat": {"runtime.engine.interface", "runtime.engine.policy", "runtime.engine.values"},
    "runtime.engine": {
        *("runtime.engine.policy", "runtime.engine.native", "runtime.engine.values", "runtime.engine.interface"),
    },
    "runtime.engine.policy": {"runtime.engine.values"},
    "runtime.engine.native": {"runtime.engine.values"},
    "runtime.engine.values": set(),
    "runtime.engine.interface": {"runtime.engine.values"},
    "runtime.server": {
        *("runtime.chat", "runtime.store", "runtime.container"),
        *("runtime.engine.interface", "runtime.engine.values"),
    },
    # What the folders below share; none of it knows a folder.
    "bundler": {"runtime.container", "runtime.program.options", "runtime.program.settings"},
    "bundler.sources": {"bundler"},
    "bundler.llamacpp": {"bundler", "bundler.sources"},
    "bundler.pack": {"bundler", "bundler.llamacpp", "runtime.container"},
    "bundler.bundle": {
        *("bundler", "bundler.sources", "bundler.pack", "runtime.container"),
        *("runtime.program.trial", "runtime.engine.values"),
    },
    "bundler.cli": {
        *("bundler", "bundler.sources", "bundler.pack", "bundler.bundle"),
        *("runtime.container", "runtime.program.options"),
    },
    "bundler.__main__": {"bundler.cli"},
}
# Everybody may.
LEAVES = {
    *("runtime.errors", "runtime.extent", "runtime.checked", "runtime.printable"),
    *("runtime.child", "runtime.nursery"),
}
CLIENTS = {"llamacpp", "openai", "anthropic", "ollama", "page"}
MAX_LINES = 500  # a prompt to ask whether a module holds two ideas, not a law


def place_of(module: str) -> str:
    return max((place for place in MAY_IMPORT if is_within(module, place)), key=len)


def is_within(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


def client_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[2] if parts[:2] == ["runtime", "server"] and len(parts) > 2 and parts[2] in CLIENTS else None


def test_both_packages_are_seen() -> None:
    assert "runtime.engine.native.context" in MODULES
    assert "bundler.bundle.weld" in MODULES


def test_an_import_inside_a_function_counts_and_one_for_types_does_not() -> None:
    source = (
        "if TYPE_CHECKING:\n    import a\ndef f():\n    import b.c\n    from runtime.engine import engine, nothing\n"
    )
    assert imports(source, MODULES) == {"b.c", "runtime.engine.engine"}
    assert imports(source, MODULES, with_typing=True) == {"a", "b.c", "runtime.engine.engine"}


def test_lines_of_code_are_those_that_do_something() -> None:
    source = '"""Words.\n\nMore."""\n\nimport a\n\n# why\ndef f():\n    """Words."""\n    return """\ntext\n"""\n'
    assert num_code_lines(source) == 4


@pytest.mark.parametrize("module", MODULES)
def test_a_place_imports_only_what_it_may(module: str) -> None:
    place = place_of(module)
    allowed = MAY_IMPORT[place] | {place, *LEAVES}
    for name in GRAPH_WITH_TYPING[module]:
        if is_within(name, "runtime") or is_within(name, "bundler"):
            inner = place_of(name)
            assert inner in allowed or inner == "runtime", f"{module} is in {place}, which doesn't know {name}"


@pytest.mark.parametrize("module", [module for module in MODULES if is_within(module, "runtime.server")])
def test_a_client_is_known_by_itself_and_the_table_of_routes_only(module: str) -> None:
    known = {client_of(name) for name in GRAPH_WITH_TYPING[module]}
    assert module == "runtime.server.app" or known <= {None, client_of(module)}


@pytest.mark.parametrize("place", ["runtime.engine.policy", "runtime.engine.values"])
def test_policy_and_values_know_no_library_thread_or_loop(place: str) -> None:
    found = {name.split(".")[0] for module in MODULES if is_within(module, place) for name in GRAPH[module]}
    assert not found & {"llama_cpp", "ctypes", "asyncio", "threading", "socket", "sqlite3"}


def test_what_the_bundler_reads_settings_with_needs_nothing_but_click() -> None:
    names = GRAPH_WITH_TYPING["runtime.program.options"] | GRAPH_WITH_TYPING["runtime.program.settings"]
    packages = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert packages == {"click", "runtime"}


@pytest.mark.parametrize(
    ("package", "only_users"),
    [
        ("llama_cpp", ["runtime.engine.native"]),
        ("ctypes", ["runtime.engine.native", "runtime.sandbox"]),  # which makes system calls
        ("llguidance", ["runtime.engine.guidance"]),
        ("sqlite3", ["runtime.store"]),
        ("PyInstaller", ["bundler.pack"]),
    ],
)
def test_one_place_talks_to_it(package: str, only_users: list[str]) -> None:
    users = {
        module for module in MODULES if any(name.split(".")[0] == package for name in GRAPH_WITH_TYPING[module])
    } - {"bundler.pack.freeze"}  # which asks with ctypes whether the system has a shared library of Python's
    assert all(any(is_within(user, place) for place in only_users) for user in users), users


@pytest.mark.parametrize("graph", [GRAPH, GRAPH_WITH_TYPING], ids=["run time", "with typing"])
def test_no_import_goes_in_a_circle(graph: dict[str, set[str]]) -> None:
    assert circles({name: found for name, found in graph.items() if is_within(name, "runtime")}) == []


@pytest.mark.parametrize("graph", [GRAPH, GRAPH_WITH_TYPING], ids=["run time", "with typing"])
def test_no_import_of_the_bundler_goes_in_a_circle(graph: dict[str, set[str]]) -> None:
    assert circles({name: found for name, found in graph.items() if is_within(name, "bundler")}) == []


def test_building_needs_nothing_but_the_standard_library() -> None:
    source = (ROOT / "build.py").read_text(encoding="utf-8")
    standard = {"hashlib", "importlib", "shutil", "subprocess", "sys", "time", "collections", "pathlib"}
    assert {name.split(".")[0] for name in imports(source, MODULES)} <= standard


@pytest.mark.parametrize("module", MODULES)
def test_module_fits_in_the_head(module: str) -> None:
    lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{module} is {lines} lines; split it by concept"
