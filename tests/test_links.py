"""Every link of the documents leads somewhere, to the very heading, and a reader of the README gets to every guide."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
DOCUMENTS: Final = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "deploy").rglob("*.md")])
_FENCE: Final = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\]\((?!\w+:)([^)\s#]*)(?:#([^)\s]*))?\)")


@cache
def text(document: Path) -> str:
    """Without its code, in which brackets mean something else."""
    return _FENCE.sub("", document.read_text("utf-8"))


@cache
def anchors(document: Path) -> frozenset[str]:
    """What the headings are called, as GitHub makes names of them."""
    headings = re.findall(r"^#+ (.*)$", text(document), re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


def links(document: Path) -> Iterator[tuple[Path, str]]:
    """Where each link leads: a path, and the name of a heading or nothing."""
    for path, anchor in _LINK.findall(text(document)):
        yield (document.parent / path).resolve() if path else document, anchor


def test_headings_get_the_names_that_links_use() -> None:
    """The names are made by the rule that the reader's browser goes by."""
    page = ROOT / "docs" / "guides" / "call-an-api-other-languages.md"
    assert {"go-xoauth2", "net", "node-openid-client-or-oauth4webapi"} <= anchors(page)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    """The file is there, and so is the heading."""
    broken = [
        f"{path.name}#{anchor}"
        for path, anchor in links(document)
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path))
    ]
    assert broken == []


def test_every_guide_is_found_from_the_readme() -> None:
    """By one link or by several; a directory that is linked shows what is in it, but no reader looks there first."""
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        fresh = {path for path, _ in links(waiting.pop()) if path.suffix == ".md" and path.exists()} - seen
        seen |= fresh
        waiting += fresh
    assert set((ROOT / "docs" / "guides").glob("*.md")) - seen == set()
