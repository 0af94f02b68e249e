"""What is printed where: the result on standard output, everything else on standard error, JSON for programs."""

import json
import os
import pty
import subprocess
from pathlib import Path

import pytest

from groat import __version__

from .running import ISSUER, Home

LISTS = (
    ("api", "list"),
    ("client", "list"),
    ("client", "key", "list", "billing"),
    ("key", "list"),
    ("config", "schema"),
    ("config", "show", "--origin"),
)
RECORDS = (
    ("version",),
    ("api", "show", "orders"),
    ("api", "update", "orders"),
    ("client", "show", "billing"),
    ("client", "update", "billing"),
    ("client", "disable", "billing"),
    ("client", "enable", "billing"),
    ("config", "check"),
    ("config", "show"),
    ("client", "assertion", "billing", "--key", "billing.key.json"),
    ("--yes", "client", "remove", "billing"),
    ("--yes", "api", "remove", "orders"),
)


@pytest.mark.parametrize("command", LISTS, ids=" ".join)
def test_a_list_is_one_json_array_of_objects(home: Home, command: tuple[str, ...]) -> None:
    """And nothing else on either stream."""
    done = home.ok("--json", *command)
    assert isinstance(done.json, list)
    assert all(isinstance(entry, dict) for entry in done.json)
    assert (len(done.out.splitlines()), done.err) == (1, "")


@pytest.mark.parametrize("command", RECORDS, ids=" ".join)
def test_a_record_is_one_json_object(home: Home, command: tuple[str, ...]) -> None:
    """And nothing else on either stream."""
    done = home.ok("--json", *command)
    assert isinstance(done.json, dict)
    assert (len(done.out.splitlines()), done.err) == (1, "")


@pytest.mark.parametrize("command", [("api", "list"), ("client", "list")], ids=" ".join)
def test_an_empty_list_is_an_empty_array(empty: Home, command: tuple[str, ...]) -> None:
    """A program need not treat it apart; -q prints nothing."""
    empty.ok("init", "--issuer", ISSUER)
    empty.ok("--yes", "api", "remove", "groat-admin")  # the one that there is from the beginning
    assert empty.ok("--json", *command).out == "[]\n"
    assert empty.ok("-q", *command).out == ""


@pytest.mark.parametrize(
    ("command", "out"),
    [
        (("api", "list"), "groat-admin\norders\n"),
        (("api", "show", "orders"), "orders\n"),
        (("api", "update", "orders"), "orders\n"),
        (("client", "list"), "billing\n"),
        (("client", "show", "billing"), "billing\n"),
        (("client", "disable", "billing"), "billing\n"),
        (("client", "add", "new", "--allow", "orders=orders:read", "--new-key", "n.json"), "new\n"),
        (("--yes", "client", "remove", "billing"), "billing\n"),
        (("--yes", "api", "remove", "orders"), "orders\n"),
        (("config", "check"), "ok\n"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_quiet_prints_ids_only(home: Home, command: tuple[str, ...], out: str) -> None:
    """One a line, and no remarks on standard error."""
    done = home.ok("-q", *command)
    assert (done.out, done.err) == (out, "")


@pytest.mark.parametrize("command", [*LISTS, *RECORDS], ids=" ".join)
def test_people_get_lines_without_control_characters(home: Home, command: tuple[str, ...]) -> None:
    """Off a terminal there are no colours, whatever NO_COLOR says."""
    done = home.ok(*command)
    assert done.out.strip()
    assert "\x1b" not in done.out + done.err


def test_version(home: Home) -> None:
    """The version, as a line and as an object."""
    assert home.script("version").out == f"groat {__version__}\n"
    assert home.ok("--json", "version").json["version"] == __version__


@pytest.mark.parametrize("scope", ["a:key:read", "a:warning:", "[red]x", "[/]", "[bold]", "[link=file:///x]y"])
def test_names_are_printed_as_they_are(home: Home, scope: str) -> None:
    """No markup, no emoji: what is shown is what is registered, in a table as in a record."""
    home.ok("api", "add", "odd", "--audience", "https://odd.example.com", "--scope", scope)
    home.ok("client", "add", scope, "--allow", f"odd={scope}", "--new-key", "odd.json")
    for command in (("api", "list"), ("api", "show", "odd"), ("client", "list"), ("client", "show", scope)):
        done = home.ok(*command)
        assert scope in done.out


def test_a_row_is_one_line_off_a_terminal(home: Home) -> None:
    """However long it is: `grep` and `wc -l` work on lists."""
    scopes = [word for number in range(40) for word in ("--scope", f"orders:action-{number}")]
    home.ok("api", "update", "orders", *scopes)
    assert len(home.ok("api", "list").out.splitlines()) == 3  # with the heading, and groat-admin


def test_errors_are_on_standard_error_alone(home: Home) -> None:
    """For people a line with the name of the program; for programs one JSON object."""
    plain, machine = home("api", "show", "none"), home("--json", "api", "show", "none")
    assert (plain.code, plain.out, plain.err) == (3, "", "groat: no API none. See: groat api list\n")
    assert (machine.code, machine.out) == (3, "")
    assert json.loads(machine.err) == {"error": "invalid_input", "message": "no API none. See: groat api list"}


def test_json_errors_of_usage(home: Home) -> None:
    """They too are one object."""
    done = home("--json", "api", "nonsense")
    assert (done.code, done.out, json.loads(done.err)["error"]) == (2, "", "usage")


def test_several_findings_are_several_lines(home: Home) -> None:
    """And one message in JSON."""
    home.file("groat.toml", f'isuer = 1\nissuer = "{ISSUER}"\n[server]\nprot = 1\n')
    done, machine = home("api", "list"), home("--json", "api", "list")
    assert done.err.splitlines() == [
        "groat: groat.toml:1: unknown setting isuer; did you mean issuer?",
        "groat: groat.toml:4: unknown setting server.prot; did you mean server.port?",
    ]
    assert done.code == machine.code == 3
    assert json.loads(machine.err)["message"].count("\n") == 1


def test_verbose_logs_on_standard_error(home: Home) -> None:
    """What an operator does is an event; standard output stays the same."""
    done = home.ok("-v", "--json", "api", "update", "orders")
    assert done.json["name"] == "orders"
    assert json.loads(done.err)["event"] == "api.updated"
    assert home.ok("--json", "api", "update", "orders").err == ""


@pytest.mark.parametrize("place", ["before", "after"])
def test_the_global_options_may_stand_anywhere(home: Home, place: str) -> None:
    """People type them where they come to mind."""
    words = ("--json", "client", "list") if place == "before" else ("client", "list", "--json")
    assert home(*words).code == 0


def test_bare_commands_show_their_help(home: Home) -> None:
    """As help looks: without the name of the program before its first line."""
    for words in ((), ("client",)):
        done = home(*words)
        assert done.code == 2
        assert (done.out + done.err).startswith("Usage: groat")


def test_every_command_has_help(home: Home) -> None:
    """Each command and option says what it is for; asking for it is no error."""
    groups = [(), ("api",), ("client",), ("client", "key"), ("key",), ("token",), ("config",)]
    for group in groups:
        done = home.ok(*group, "--help")
        assert done.out.startswith("Usage: groat")
        commands = done.out.partition("Commands:\n")[2].partition("\n\n")[0]
        names = [line.split()[0] for line in commands.splitlines()]
        assert names
        for name in names:
            shown = home.ok(*group, name, "-h").out
            assert shown.startswith("Usage: groat")


def test_a_closed_pipe_is_not_a_bug(home: Home) -> None:
    """`groat ... | head` ends quietly."""
    read, write = os.pipe()
    os.close(read)
    process = home.start("config", "schema", stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    _, err = process.communicate(timeout=30)
    assert "bug" not in err.decode()
    assert "Traceback" not in err.decode()


def on_terminal(home: Home, *arguments: str, **env: str) -> str:
    """What the console script prints when standard output is a terminal."""
    ours, theirs = pty.openpty()
    process = home.start(*arguments, stdin=theirs, stdout=theirs, stderr=theirs, env={"TERM": "xterm-256color", **env})
    os.close(theirs)
    printed = b""
    while True:
        try:
            chunk = os.read(ours, 65_536)
        except OSError:
            break
        if not chunk:
            break
        printed += chunk
    os.close(ours)
    assert process.wait(20) == 0, printed
    return printed.decode()


def test_colours_are_for_terminals_that_want_them(home: Home) -> None:
    """A terminal gets them, unless it is told not to."""
    assert "\x1b[" in on_terminal(home, "client", "list")
    assert "\x1b[" not in on_terminal(home, "--no-color", "client", "list")


@pytest.mark.parametrize("value", ["1", "0", "false", "yes please"])
def test_no_color_with_any_value(home: Home, value: str) -> None:
    """Set and not empty is enough, whatever it says (no-color.org)."""
    assert "\x1b[" not in on_terminal(home, "client", "list", NO_COLOR=value)


def test_an_empty_no_color_is_not_set(home: Home) -> None:
    """As the convention has it."""
    assert "\x1b[" in on_terminal(home, "client", "list", NO_COLOR="")


def test_the_configuration_may_be_elsewhere(home: Home, tmp_path: Path) -> None:
    """By option or by variable; its paths are relative to itself."""
    path = str(home.directory / "groat.toml")
    elsewhere = Home(tmp_path)
    assert elsewhere.ok("--config", path, "-q", "client", "list").out == "billing\n"
    assert elsewhere.ok("-q", "client", "list", GROAT_CONFIG=path).out == "billing\n"


def test_config_show_tells_the_origin(home: Home) -> None:
    """File, variable or default, for every setting."""
    rows = home.ok("--json", "config", "show", "--origin", GROAT_SERVER__PORT="5").json
    origins = {row["name"]: (row["value"], row["origin"]) for row in rows}
    assert origins["issuer"] == (ISSUER, "file")
    assert origins["server.port"] == (5, "GROAT_SERVER__PORT")
    assert origins["log.level"] == ("info", "default")
