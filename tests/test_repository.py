"""The house keeps its own rules: how long things may be, what knows what, and that the documents tell the truth."""

import ast
import importlib
import io
import os
import re
import tokenize
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Final

import pytest

from groat.server import operations
from groat.server.operations.table import OPERATIONS
from groat.server.settings.table import BY_NAME
from tests import settings_page

ROOT: Final = Path(__file__).parent.parent
SOURCE: Final = ROOT / "src"
REFERENCE: Final = ROOT / "docs" / "reference"
MAX_FUNCTION_LINES: Final = 40
MAX_MODULE_LINES: Final = 400
MAX_PARAMETERS: Final = 6
LONG_MODULE_LINES: Final = 200
COMMENT_SHARE: Final = 0.15  # lines of comments and docstrings for each line of code

Function = ast.FunctionDef | ast.AsyncFunctionDef

# What users write with keywords, of which each has a default.
CONSTRUCTORS: Final = {"Verifier.__init__", "MachineClient.__init__", "FakeIssuer.token"}
# A table of sentences: it says of each reason what a comment would say of code.
SENTENCES: Final = {"groat.protocol.reasons"}
# Files that name each other, and why they may.
CIRCLES: Final[Mapping[frozenset[str], str]] = {}
PUBLIC: Final = (
    "verifier", "verifier.presets", "verifier.asgi", "verifier.fastapi", "client",
    "verifier.flask",
    "verifier.aiohttp", "verifier.grpc", "verifier.mcp", "client.requests", "client.grpc",
    "verifier.django", "verifier.drf",
    "testing",
)  # fmt: skip


@cache
def modules() -> Mapping[str, Path]:
    """Every module of the distribution by its dotted name; a package has the name of its folder."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text("utf-8"))


def functions(module: str) -> Iterator[tuple[str, Function]]:
    """Every function with its name as a reader would write it: Class.method, or the name alone."""
    for outer in ast.walk(tree(module)):
        for node in ast.iter_child_nodes(outer):
            if isinstance(node, Function):
                yield f"{outer.name}.{node.name}" if isinstance(outer, ast.ClassDef) else node.name, node


def all_functions() -> Iterator[tuple[str, str, Function]]:
    return ((module, name, node) for module in modules() for name, node in functions(module))


def test_functions_are_short() -> None:
    """At most forty lines, decorators not counted: what is longer does two things."""
    lengths = {f"{module}.{name}": _lines(node) for module, name, node in all_functions()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


def _lines(node: ast.stmt | ast.expr) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_modules_are_short() -> None:
    """At most four hundred lines: a module is read in one go."""
    lengths = {module: len(path.read_text("utf-8").splitlines()) for module, path in modules().items()}
    assert {module: lines for module, lines in lengths.items() if lines > MAX_MODULE_LINES} == {}


def test_parameters_are_few() -> None:
    """At most six: what travels together becomes a value. The options of a command are its command line."""
    counts = {
        f"{module}.{name}": _parameters(node)
        for module, name, node in all_functions()
        if name not in CONSTRUCTORS and not _is_command(node)
    }
    assert {name: count for name, count in counts.items() if count > MAX_PARAMETERS} == {}


def _parameters(node: Function) -> int:
    named = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
    return len([one for one in named if one.arg not in ("self", "cls")])


def _is_command(node: Function) -> bool:
    return any(re.match(r"(\w+\.)*(command|group)\(", ast.unparse(one)) for one in node.decorator_list)


def test_long_modules_say_why() -> None:
    """Where there is much code there is somebody who asks why; the share is small, and filler would be seen."""
    shares = {module: _comment_share(path) for module, path in modules().items() if module not in SENTENCES}
    assert {module: round(share, 3) for module, share in shares.items() if share < COMMENT_SHARE} == {}


def _comment_share(path: Path) -> float:
    text = path.read_text("utf-8")
    lines = text.splitlines()
    if len(lines) <= LONG_MODULE_LINES:
        return 1.0
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = sum(token.type == tokenize.COMMENT for token in tokens) + sum(map(_lines, _docstrings(ast.parse(text))))
    code = len([line for line in lines if line.strip()]) - comments
    return comments / code


def _docstrings(module: ast.Module) -> Iterator[ast.Expr]:
    for node in ast.walk(module):
        if isinstance(node, ast.Module | ast.ClassDef | Function) and ast.get_docstring(node) is not None:
            first = node.body[0]
            assert isinstance(first, ast.Expr)
            yield first


def test_no_files_know_each_other_in_a_circle() -> None:
    """Imports inside of functions and for types alone are arrows too; the exceptions are named with their reasons."""
    assert set(_circles(_arrows())) == set(CIRCLES)
    assert all(CIRCLES.values())


def _arrows() -> dict[str, set[str]]:
    return {module: set(_imported(module)) - {module} for module in modules()}


def _imported(module: str) -> Iterator[str]:
    """The modules that this one names; `from package import name` means the module package.name where it is one."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules())
        elif isinstance(node, ast.ImportFrom) and node.module and node.module in modules():
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules() else node.module


def _circles(arrows: Mapping[str, set[str]]) -> list[frozenset[str]]:
    """The groups of more than one file in which each is reached from each other."""
    reached = {module: _reached(module, arrows) for module in arrows}
    groups = {frozenset(other for other in beyond if module in reached[other]) for module, beyond in reached.items()}
    return [group for group in groups if len(group) > 1]


def _reached(start: str, arrows: Mapping[str, set[str]]) -> set[str]:
    seen, waiting = set[str](), [start]
    while waiting:
        fresh = arrows[waiting.pop()] - seen
        seen |= fresh
        waiting += fresh
    return seen


def test_a_circle_is_found() -> None:
    """The search is no better than its eyes."""
    arrows = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": set[str]()}
    assert _circles(arrows) == [frozenset("abc")]


@pytest.mark.parametrize("package", PUBLIC)
def test_the_public_names_are_the_documented_ones(package: str) -> None:
    """`__all__` is what docs/reference/python.md lists, no more and no less, and everything in it has a docstring."""
    public = importlib.import_module(f"groat.{package}")
    (section,) = re.findall(
        rf"^## groat\.{re.escape(package)}\n(.*?)(?=^## |\Z)", (REFERENCE / "python.md").read_text("utf-8"), re.M | re.S
    )
    assert set(re.findall(r"`(\w+)`", section)) == set(public.__all__)
    assert len(set(public.__all__)) == len(public.__all__)
    offered = [getattr(public, name) for name in public.__all__]
    assert [one for one in offered if callable(one) and not one.__doc__] == []


def test_every_setting_is_documented() -> None:
    """docs/reference/settings.md is written from the table; `make rules` writes it anew."""
    assert settings_page.TARGET.read_text("utf-8") == settings_page.document()


_EVENT: Final = re.compile(r"[a-z]+\.[a-z_]+")
# Words of that form which are something else: files, and what other programs call their loggers and messages.
_NO_EVENTS: Final = {"admin.lock", "http.disconnect", "http.request", "uvicorn.error"}


def test_every_log_event_is_documented() -> None:
    """docs/reference/events.md has those that the server can write, and no others."""
    written = {
        node.value
        for module in modules()
        if module.startswith(("groat.server", "groat.serving", "groat.keys", "groat.app", "groat.guard"))
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _EVENT.fullmatch(node.value)
    }
    page = (REFERENCE / "events.md").read_text("utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    documented = {name for row in rows for name in re.findall(r"`([a-z_.]+)`", row)}
    assert documented == (written - set(BY_NAME) - set(OPERATIONS) - _NO_EVENTS) | {"log"}


def test_every_metric_is_documented() -> None:
    """docs/reference/metrics.md has the families of the exposition, and the counters of endpoints, under the names that Prometheus shows."""
    rooms = ("groat.server.endpoints", "groat.server.log", "groat.guard")
    text = "".join(path.read_text("utf-8") for module, path in modules().items() if module.startswith(rooms))
    written = {name.removesuffix("_total") for name in re.findall(r'"(groat_[a-z_]+)"', text)}
    page = (REFERENCE / "metrics.md").read_text("utf-8")
    documented = {name.removesuffix("_total").removesuffix("_info") for name in re.findall(r"`(groat_[a-z_]+)`", page)}
    assert documented == {name.removesuffix("_info") for name in written}


DOCUMENTS: Final = ("ARCHITECTURE.md", "CONTRIBUTING.md", *sorted(
    path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "decisions").glob("*.md")
))  # fmt: skip
_PATH: Final = re.compile(r"(?<![\w/.-])((?:[\w-]+/)*[\w-]+\.(?:py|md|sql|yaml|toml|txt)|(?:[\w-]+/)+)(?![\w/-])")
# Names of files that somebody else has: an operator, a reader's installation.
_OF_OTHERS: Final = {"groat.toml"}


_NOT_OURS: Final = {".git", ".venv", "node_modules", "__pycache__", "dist"}


@cache
def tracked() -> tuple[str, ...]:
    """Every file of the repository, and every folder with its slash; read without git, which a copy may lack."""
    folders, files = {"./"}, []
    for folder, inner, names in os.walk(ROOT):
        inner[:] = [name for name in inner if name not in _NOT_OURS and not name.endswith(".egg-info")]
        place = Path(folder).relative_to(ROOT)
        folders |= {f"{(place / name).as_posix()}/" for name in inner}
        files += [(place / name).as_posix() for name in names]
    return (*files, *folders)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_a_document_names_is_there(document: str) -> None:
    """Each path is one of the repository, or the end of one, as a reader would look for it."""
    text = (ROOT / document).read_text("utf-8")
    named = {path for path in _PATH.findall(text) if path not in _OF_OTHERS and "NNNN" not in path}
    assert {path for path in named if not any(f"/{real}".endswith(f"/{path}") for real in tracked())} == set()


def test_the_words_of_the_map_are_words_of_the_code() -> None:
    """A function, class or table that ARCHITECTURE.md names is defined somewhere."""
    text = (ROOT / "ARCHITECTURE.md").read_text("utf-8")
    words = {word for word in re.findall(r"`([A-Za-z_.]+)`", text) if not _PATH.fullmatch(word)}
    defined = set(chain.from_iterable(map(_defined, modules())))
    packages = {module.removeprefix("groat.") for module in modules()}
    assert {word for word in words if word not in defined | packages and not word.startswith("make")} == set()


def _defined(module: str) -> Iterator[str]:
    for outer in ast.walk(tree(module)):
        for node in ast.iter_child_nodes(outer):
            if isinstance(node, ast.ClassDef | Function):
                yield node.name
                yield f"{outer.name}.{node.name}" if isinstance(outer, ast.ClassDef) else node.name
            elif isinstance(node, ast.AnnAssign | ast.Assign):
                targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
                yield from (target.id for target in targets if isinstance(target, ast.Name))


def test_the_versions_of_python_agree() -> None:
    """What the package says it runs on is what the README asks for, and the images take the newest of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    versions = [
        match[1] for line in project["classifiers"] if (match := re.fullmatch(r".*:: Python :: (3\.\d+)", line))
    ]
    assert project["requires-python"] == f">={versions[0]}"
    assert f"Python {versions[0]} to {versions[-1]}" in (ROOT / "README.md").read_text("utf-8")
    for file in (ROOT / "deploy").rglob("Dockerfile"):
        assert f"ARG BASE=python:{versions[-1]}-slim\n" in file.read_text("utf-8")


def test_an_endpoint_is_known_to_one_module() -> None:
    """ARCHITECTURE.md: an endpoint is one module and one row in the table; nothing else has to be touched for one."""
    endpoints = [
        module for module in modules()
        if module.startswith("groat.server.endpoints.") and any(name.endswith("Endpoint") for name in _defined(module))
    ]  # fmt: skip
    arrows = _arrows()
    known_to = {one: {module for module in arrows if one in arrows[module]} for one in endpoints}
    assert len(endpoints) >= 5
    assert {one: others for one, others in known_to.items() if others != {"groat.server.endpoints"}} == {}


def test_an_operator_action_stands_in_the_list() -> None:
    """ARCHITECTURE.md: whatever the command line calls of an operation's module is in the one list of operations."""
    listed = set(operations.__all__)
    for module in modules():
        if not module.startswith("groat.cli.commands"):
            continue
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "operations":
                assert node.attr in listed, f"{module} calls operations.{node.attr}"


def test_the_changelog_is_in_one_piece() -> None:
    """Merges double lines and tear entries apart: no line is there twice, and each entry ends as a sentence does."""
    _, _, text = (ROOT / "CHANGELOG.md").read_text("utf-8").split("\n\n")
    lines = text.splitlines()
    assert [line for line in lines if not line.startswith(("- ", "  "))] == []
    assert [line for line, times in Counter(lines).items() if times > 1] == []
    assert [
        entry for entry in re.split(r"^- ", text, flags=re.MULTILINE)[1:] if not re.search(r"\.\**\n\Z", entry)
    ] == []
