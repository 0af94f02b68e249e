"""The fixture `groat_issuer` for pytest, which finds this module by an entry point; `-p no:groat` leaves it out.

Every pytest of an environment with groat loads it, so that nothing of groat is imported before a test asks for it.
"""

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from groat.testing import FakeIssuer


@pytest.fixture
def groat_issuer(monkeypatch: pytest.MonkeyPatch) -> "Iterator[FakeIssuer]":
    """An issuer in memory that every Verifier and MachineClient for GROAT_ISSUER talks to during the test.

    Without GROAT_ISSUER or GROAT_AUDIENCE in the environment it names itself, and sets both for the test.
    """
    from groat.testing import FakeIssuer

    issuer = FakeIssuer.from_env()
    for name, value in issuer.environment().items():
        monkeypatch.setenv(name, value)
    with issuer.installed():
        yield issuer
