"""The reasons of refusals are a closed list: every one that the code can say is explained, and none is explained in vain."""

import ast
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click
import pytest

from groat.cli.root import cli
from groat.protocol import admin_refusals, errors, reasons
from groat.protocol.errors import InvalidClient, VerificationError
from groat.protocol.key_limits import OutOfTime
from groat.server import unavailable
from groat.server.unavailable import Unavailable
from tests import reasons_page

from .builders import CLIENT_KEY, assertion, authenticate
from .mutations import mutate

SOURCES: Final = Path(errors.__file__).parent.parent
SERVER: Final[Mapping[str, reasons.Reason]] = {
    code: row for table in reasons.TABLES.values() if table is not reasons.VERIFIER for code, row in table.items()
}
# What a JoseError of these modules says goes on behind the prefix.
BEHIND: Final = {
    "assertion": ("jose", "strict_json", "client_auth/private_key_jwt"),
    "dpop": ("jose", "strict_json", "dpop", "htu"),
    "endorsement": ("jose", "strict_json", "enrolment"),
    "proof": ("jose", "strict_json", "enrolment"),
    "workload": (
        "jose",
        "strict_json",
        "federation/foreign_token",
        "federation/rules",
        "client_auth/workload",
        "federation/token_review",
    ),
}
# A signature that fails is the assertion's there, and only a proof brings a key; only an endorsement retires one.
# A proof of possession names no audience, and at a token endpoint no token.
NEVER: Final = {"endorsement_signature", "endorsement_key", "proof_retirement", "dpop_audience", "dpop_token"}


@dataclass(frozen=True)
class Said:
    """A place that makes a refusal: the class, the words it can give as reason, and whether these are all."""

    place: str
    kind: str
    words: frozenset[str]
    plain: bool


def _kinds() -> dict[str, type[BaseException]]:
    found = {**vars(errors), **vars(unavailable), **vars(admin_refusals)}
    return {
        name: kind
        for name, kind in found.items()
        if isinstance(kind, type)
        and issubclass(kind, (errors.OAuthError, VerificationError, errors.JoseError, Unavailable))
    }


KINDS: Final = _kinds()
# Their reason is not their first argument.
FIXED: Final = {
    "MissingToken": "missing",
    "InsufficientScope": "scope",
    "KeysUnavailable": "key_unavailable",
    "StatusUnavailable": "status_unknown",
    "ProofsUnavailable": "dpop_full",
    "ReplayStoreUnavailable": "dpop_store",
}
# Expressions that hand on what another place said; the classes that may be made so.
HANDED_ON: Final = {
    "error.reason": {"InvalidToken", "TemporarilyUnavailable", "JoseError"},
    "fault.value": {"InvalidClient"},
    "*no_key(header, keys)": {"JoseError"},
}


def _words(expression: ast.expr, tree: ast.Module) -> frozenset[str]:
    """Every string constant that the expression, or a name in it, can be; the test of a condition left out."""
    if isinstance(expression, ast.Constant):
        return frozenset([expression.value]) if isinstance(expression.value, str) else frozenset()
    if isinstance(expression, ast.IfExp):
        return _words(expression.body, tree) | _words(expression.orelse, tree)
    if isinstance(expression, ast.Tuple):
        return _words(expression.elts[0], tree)
    if not isinstance(expression, ast.Name):
        return frozenset()
    values = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        for first in [target.elts[0] if isinstance(target, ast.Tuple) else target]
        if isinstance(first, ast.Name) and first.id == expression.id
    ]
    return frozenset().union(*(_words(value, tree) for value in values))


def _said() -> Iterator[Said]:
    for path in sorted(SOURCES.rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        imported = _imported(tree) if path.parent.name == "client" else KINDS.keys()
        for node in ast.walk(tree):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id in KINDS:
                node = ast.Call(node.exc, [], [], lineno=node.lineno)  # raise StoreClosed, without a call
            name = ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
            if not isinstance(node, ast.Call) or name not in KINDS or name not in imported:
                continue
            place = f"{path.relative_to(SOURCES)}:{node.lineno}"
            yield from _of_call(place, name, node, tree)


def _imported(tree: ast.Module) -> set[str]:
    """The client library has an InsufficientScope of its own; only names of the core count."""
    return {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "groat.protocol.errors"
        for alias in node.names
    }


def _of_call(place: str, name: str, node: ast.Call, tree: ast.Module) -> Iterator[Said]:
    if name in FIXED:
        yield Said(place, name, frozenset([FIXED[name]]), plain=True)
    elif (code := getattr(KINDS[name], "code", "")) and issubclass(KINDS[name], Unavailable):
        yield Said(place, name, frozenset([code]), plain=True)
    elif node.args:
        first = node.args[0]
        words = _words(first, tree)
        if isinstance(first, ast.JoinedStr):
            yield Said(place, name, frozenset([ast.unparse(first)]), plain=False)
        elif words:
            yield Said(place, name, words, plain=True)
        else:
            yield Said(place, name, frozenset([ast.unparse(first)]), plain=False)


ALL_SAID: Final = tuple(_said())
PLAIN: Final = tuple(said for said in ALL_SAID if said.plain)


def _jose_words(*modules: str) -> set[str]:
    files = {f"protocol/{module}.py" for module in modules}
    return {
        w for said in PLAIN if said.kind == "JoseError" and said.place.partition(":")[0] in files for w in said.words
    }


def _of(base: type[BaseException]) -> set[str]:
    return {word for said in PLAIN if issubclass(KINDS[said.kind], base) for word in said.words}


def _composed() -> set[str]:
    return {f"{prefix}_{word}" for prefix, modules in BEHIND.items() for word in _jose_words(*modules)} - NEVER


def _spoken_by_the_server() -> set[str]:
    return {
        *_of(errors.OAuthError),
        *_of(Unavailable),
        *_composed(),
        *(value.value for value in OutOfTime),
        "disconnected",  # nobody is left to be refused: it is recorded alone
    }


def _spoken_by_the_verifier() -> set[str]:
    proofs = {f"dpop_{word}" for word in _jose_words(*BEHIND["dpop"])} - {"dpop_audience"}
    return _of(VerificationError) | _jose_words("jose", "strict_json", "access_token", "binding") | proofs


def test_the_server_says_listed_reasons_and_every_listed_one() -> None:
    """The tables of the server are exactly what its code can say."""
    assert _spoken_by_the_server() == SERVER.keys()


def test_the_verifier_says_listed_reasons_and_every_listed_one() -> None:
    """The table of the verifier is exactly what its code can say."""
    assert _spoken_by_the_verifier() == reasons.VERIFIER.keys()


def test_reasons_that_are_put_together() -> None:
    """Only a listed prefix stands before what a rule said, and only three ways hand a reason on."""
    for said in ALL_SAID:
        (text,) = said.words if not said.plain else ("",)
        if text.startswith("f'"):
            assert text in {f"f'{prefix}_{{error.reason}}'" for prefix in reasons.PREFIXES}, said
        elif text:
            assert said.kind in HANDED_ON.get(text, ()), said


def test_a_word_stands_in_one_table_of_the_server() -> None:
    """Who reads `reason` in a log line needs no second word to look it up."""
    assert len(SERVER) == sum(len(table) for table in reasons.TABLES.values()) - len(reasons.VERIFIER)


@pytest.mark.parametrize("table", reasons.TABLES.values(), ids=reasons.TABLES)
def test_every_reason_is_explained(table: Mapping[str, reasons.Reason]) -> None:
    """A word, and two sentences: three lines that are out of step would show here."""
    for code, row in table.items():
        assert re.fullmatch(r"[a-z_]+", code), code
        for sentence in (row.meaning, row.remedy):
            assert re.fullmatch(r"[^|]+ [^|]+[.?]", sentence), (code, sentence)


def _commands(group: click.Group, path: str) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}"
        if isinstance(command, click.Group):
            yield from _commands(command, f"{path} {name}")


def test_the_commands_of_remedies_exist() -> None:
    """Who is told to run something finds it."""
    known = set(_commands(cli, "groat"))
    offered = {
        found
        for row in (*SERVER.values(), *reasons.VERIFIER.values())
        for text in (row.meaning, row.remedy)
        for found in re.findall(r"groat (?:client key|[a-z]+) [a-z]+", text)
    }
    assert offered
    assert offered <= known


def test_whatever_is_wrong_with_an_assertion_has_a_listed_reason() -> None:
    """Three thousand broken assertions: the reading of the sources above is no more than a reading."""
    rng, said = random.Random(7), set()
    for _ in range(3000):
        try:
            authenticate(mutate(assertion(), CLIENT_KEY, rng).token)
        except InvalidClient as error:
            said.add(error.reason)
    assert said <= reasons.CLIENT.keys()
    assert len(said) > 5


def test_the_page_is_up_to_date() -> None:
    """docs/reference/reasons.md is the tables, word for word: `make rules` writes it."""
    assert reasons_page.TARGET.read_text("utf-8") == reasons_page.document()
