"""The programs of the guides, cut out of their pages so that what is read is what is run."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

GUIDES: Final = Path(__file__).parent.parent / "docs" / "guides"
ISSUER: Final = "https://auth.example.com"
# The first line of a whole program is a comment with its path.
_PATH: Final = re.compile(r"(?://|#) ([\w./-]+\.\w+)\n")


def blocks(page: str, language: str) -> list[str]:
    """Every block of that language, in the order of the page."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", (GUIDES / page).read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [body for name, body in fences if name == language]


def programs(page: str, language: str, issuer: str = ISSUER) -> Mapping[str, str]:
    """The whole programs by the path that stands in their first line; `issuer` takes the place of the page's own."""
    named = [(_PATH.match(block), block) for block in blocks(page, language)]
    return {path[1]: block.replace(ISSUER, issuer) for path, block in named if path}
