"""How the sources hang together, measured: `python tests/structure.py [FOLDER ...]` prints a table.

Reads imports and definitions with `ast` and runs nothing. A folder's siblings are its modules and packages, `__init__`
apart. A function's lines are those from `def` to its end, its parameters those that a caller gives. A circle is a set
of modules each of which imports, directly or not, all the others; with typing, imports under `if TYPE_CHECKING:` count.
"""

import ast
import io
import sys
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LONG_FUNCTION = 40
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
Function = ast.FunctionDef | ast.AsyncFunctionDef
Graph = Mapping[str, set[str]]


class Measured(NamedTuple):
    """One row of the table; lines are those of the files, `over_long` the share of functions that are over 40 lines."""

    num_modules: int
    num_lines: int
    num_code_lines: int
    largest_folder: tuple[int, str]
    function_p90: int
    longest_function: tuple[int, str]
    over_long: float
    most_parameters: tuple[int, str]
    largest_class: tuple[int, str]
    circles: list[list[str]]
    circles_with_typing: list[list[str]]


def modules_below(folder: Path, root: Path = ROOT) -> dict[str, Path]:
    """Return the modules of a folder by their dotted names, packages (`__init__`) by their own."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(root).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def nodes(node: ast.AST, *, with_typing: bool) -> Iterator[ast.AST]:
    """Yield every node below one; those under `if TYPE_CHECKING:`, which never run, only if asked for."""
    for child in ast.iter_child_nodes(node):
        is_typing = isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"
        if is_typing and not with_typing:
            continue
        yield child
        yield from nodes(child, with_typing=with_typing)


def imports(source: str, modules: Iterable[str], *, with_typing: bool = False) -> set[str]:
    """Return what a source imports by full names, wherever in it the import stands."""
    known, found = set(modules), set[str]()
    for node in nodes(ast.parse(source), with_typing=with_typing):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "absolute imports only"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            # `from package import module` names a module; `from module import name` names the module alone.
            found |= names & known or {node.module}
    return found


def import_graph(modules: Mapping[str, Path], *, with_typing: bool = False) -> dict[str, set[str]]:
    """Return for each module what it imports, among these or not."""
    return {
        name: imports(path.read_text(encoding="utf-8"), modules, with_typing=with_typing)
        for name, path in modules.items()
    }


def circles(graph: Graph) -> list[list[str]]:
    """Return the circles of a graph, each sorted."""
    reached = {name: _reachable(graph, name) for name in graph}
    found = {
        tuple(sorted({name, *(other for other in reached[name] if name in reached.get(other, ()))}))
        for name in graph
        if name in reached[name]
    }
    return sorted(map(list, found))


def _reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name in graph and name not in seen:
            seen.add(name)
            waiting += graph[name]
    return seen


def siblings(folder: Path) -> dict[Path, list[str]]:
    """Return the modules and packages of each folder."""
    found: dict[Path, list[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        if path.name != "__init__.py":
            found.setdefault(path.parent, []).append(path.stem)
    for inner in list(found):
        while inner != folder:
            names = found.setdefault(inner.parent, [])
            if inner.name not in names:
                names.append(inner.name)
            inner = inner.parent
    return found


def definitions(modules: Mapping[str, Path]) -> Iterator[tuple[str, Function | ast.ClassDef]]:
    """Yield every function and class with a name that finds it."""
    for name, path in modules.items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield f"{name}:{node.name}", node


def num_lines(node: Function | ast.ClassDef) -> int:
    assert node.end_lineno is not None
    return node.end_lineno - node.lineno + 1


def num_code_lines(source: str) -> int:
    """Count the lines that do something: no blank one, comment, docstring or import."""
    lines = set[int]()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in _NO_CODE:
            lines.update(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(source)):
        is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if is_text or isinstance(node, (ast.Import, ast.ImportFrom)):
            lines.difference_update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def num_parameters(function: Function) -> int:
    """Count what a caller gives: not `self`, not `cls`."""
    given = function.args
    named = [each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len([name for name in named if name not in ("self", "cls")]) + bool(given.vararg) + bool(given.kwarg)


def measure(folder: Path, root: Path = ROOT) -> Measured:
    """Measure the modules below a folder of `root`."""
    modules = modules_below(folder, root)
    sources = [path.read_text(encoding="utf-8") for path in modules.values()]
    functions = [(name, node) for name, node in definitions(modules) if not isinstance(node, ast.ClassDef)]
    classes = [(num_lines(node), name) for name, node in definitions(modules) if isinstance(node, ast.ClassDef)]
    lengths = sorted((num_lines(node), name) for name, node in functions)
    return Measured(
        num_modules=len(modules),
        num_lines=sum(len(source.splitlines()) for source in sources),
        num_code_lines=sum(map(num_code_lines, sources)),
        largest_folder=max((len(names), str(path.relative_to(root))) for path, names in siblings(folder).items()),
        function_p90=lengths[len(lengths) * 9 // 10][0],
        longest_function=lengths[-1],
        over_long=sum(length > LONG_FUNCTION for length, _name in lengths) / len(lengths),
        most_parameters=max((num_parameters(node), name) for name, node in functions),
        largest_class=max(classes),
        circles=circles(import_graph(modules)),
        circles_with_typing=circles(import_graph(modules, with_typing=True)),
    )


def main(names: list[str]) -> None:
    for name in names or ["runtime", "bundler"]:
        folder = Path(name).resolve()
        measured = measure(folder, folder.parent)
        print(name)
        for field, value in measured._asdict().items():
            if field.startswith("circles"):
                shown = f"{len(value)}" + "".join(f"\n{'':26}{' <-> '.join(circle)}" for circle in value)
            elif isinstance(value, tuple):
                shown = f"{value[0]:<7} {value[1]}"
            else:
                shown = f"{value:.1%}" if isinstance(value, float) else f"{value}"
            print(f"  {field.replace('_', ' '):<22}  {shown}")


if __name__ == "__main__":
    main(sys.argv[1:])
