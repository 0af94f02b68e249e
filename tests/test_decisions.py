"""The records of decisions: each has its four parts, and the index has each."""

import re
from pathlib import Path
from typing import Final

import pytest

FOLDER: Final = Path(__file__).parent.parent / "docs" / "decisions"
RECORDS: Final = sorted(FOLDER.glob("0*.md"))
PARTS: Final = ("Problem", "Decision", "Not chosen", "Costs")


def test_there_are_records() -> None:
    """What follows is about more than nothing."""
    assert len(RECORDS) > 30


@pytest.mark.parametrize("record", RECORDS, ids=[record.stem for record in RECORDS])
def test_a_record_has_four_parts(record: Path) -> None:
    """Each once, at the beginning of a paragraph, with something behind it; the problem comes first."""
    text = record.read_text("utf-8")
    assert not re.search(r"^(<{7}|={7}|>{7})", text, re.MULTILINE), "a conflict of two versions"
    for part in PARTS:
        assert len(re.findall(rf"^\*\*{part}\.\*\*\s+\S", text, re.MULTILINE)) == 1, part
    assert re.match(r"# \d{4} \S.*\n\n\*\*Problem\.\*\*", text)


def test_the_index_names_every_record_as_it_calls_itself() -> None:
    """By number, file and title, in order."""
    titles = [record.read_text("utf-8").partition("\n")[0].removeprefix("# ").split(" ", 1) for record in RECORDS]
    rows = [f"| [{number}]({record.name}) | {title} |" for record, (number, title) in zip(RECORDS, titles, strict=True)]
    assert [line for line in (FOLDER / "README.md").read_text("utf-8").splitlines() if line.startswith("| [")] == rows


def test_what_a_record_points_to_is_there() -> None:
    """Other records by link, and files of the repository by path."""
    for record in RECORDS:
        text = record.read_text("utf-8")
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (FOLDER / link).is_file(), (record.name, link)
        for path in re.findall(r"`((?:tests|src|benchmarks|deploy)/[\w./-]+\.\w+)", text):
            assert (FOLDER.parent.parent / path).is_file(), (record.name, path)
