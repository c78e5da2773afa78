"""The code keeps its shape: short functions and files, no import cycle, few broad excepts, annotations everywhere."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("providers", "routing", "analytics", "routerplatform", "benchmarks", "script")
GENERATED = re.compile(r"(^|/)migrations/|_pb2(_grpc)?\.py$")

MAX_FILE_LINES = 500
MAX_FUNCTION_LINES = 60
P95_FUNCTION_LINES = 40
MAX_BROAD_EXCEPTS = 5
TEST_LINES_PER_SOURCE_LINE = 1.2

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Module(NamedTuple):
    name: str
    where: str
    lines: int
    tree: ast.Module


@cache
def modules() -> tuple[Module, ...]:
    found = []
    for path in sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        where = path.relative_to(ROOT).as_posix()
        if not GENERATED.search(where):
            name = where.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
            text = path.read_text()
            found.append(Module(name, where, text.count("\n"), ast.parse(text)))
    return tuple(found)


def functions() -> Iterator[tuple[str, Function]]:
    for module in modules():
        for node in ast.walk(module.tree):
            if isinstance(node, Function):
                yield f"{module.where}:{node.lineno} {node.name}", node


def length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def is_annotated(function: Function) -> bool:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return function.returns is not None and all(a.annotation for a in arguments if a.arg not in {"self", "cls"})


def is_broad(handler: ast.ExceptHandler) -> bool:
    names = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        name is None or (isinstance(name, ast.Name) and name.id in {"Exception", "BaseException"}) for name in names
    )


def imports(module: Module, known: set[str]) -> set[str]:
    """The modules of ours that `module` imports, wherever the statement stands but under TYPE_CHECKING."""
    wanted: set[str] = set()
    stack: list[ast.AST] = [module.tree]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        stack.extend(ast.iter_child_nodes(node))
        if isinstance(node, ast.Import):
            wanted.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            wanted.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in (nearest(name, known) for name in wanted) if name and name != module.name}


def nearest(name: str, known: set[str]) -> str:
    """`name`, or the module that it is an attribute of; empty if it is not ours."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name


def test_there_is_code_to_measure() -> None:
    assert {module.name.partition(".")[0] for module in modules()} >= set(PACKAGES) - {"script"}
    assert len(list(functions())) > 50


def test_no_function_is_longer_than_60_lines() -> None:
    assert [f"{where} ({length(node)})" for where, node in functions() if length(node) > MAX_FUNCTION_LINES] == []


def test_19_of_20_functions_have_40_lines_or_less() -> None:
    lengths = sorted(length(node) for _, node in functions())
    assert lengths[min(len(lengths) - 1, int(0.95 * len(lengths)))] <= P95_FUNCTION_LINES


def test_no_file_is_longer_than_500_lines() -> None:
    assert [f"{module.where} ({module.lines})" for module in modules() if module.lines > MAX_FILE_LINES] == []


def test_there_is_no_import_cycle() -> None:
    known = {module.name for module in modules()}
    try:
        TopologicalSorter({module.name: imports(module, known) for module in modules()}).prepare()
    except CycleError as error:
        raise AssertionError(" -> ".join(error.args[1])) from None


def test_broad_excepts_are_rare() -> None:
    found = [
        f"{module.where}:{node.lineno}"
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ExceptHandler) and is_broad(node)
    ]
    assert len(found) <= MAX_BROAD_EXCEPTS, found


def test_every_function_is_annotated() -> None:
    assert [where for where, node in functions() if not is_annotated(node)] == []


def test_there_is_more_test_than_source() -> None:
    """Counted in files that end in .py: the entry points in script/ have no suffix."""
    source = sum(module.lines for module in modules() if not module.where.startswith("script/"))
    tests = sum(path.read_text().count("\n") for path in (ROOT / "tests").rglob("*.py"))
    assert tests >= TEST_LINES_PER_SOURCE_LINE * source
