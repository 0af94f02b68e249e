"""The labs: servers of this process, one for most tests and fresh ones for those that break something."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from groat.protocol.jwk import private_key
from tests.server.assertions import RSA_PAIR
from tests.server.builders import Party
from tests.server.lab import DEFAULTS, Lab, prepare, running


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The shared server: its throttle is out of the way, and tests add clients of their own to change them."""
    with running(prepare(tmp_path_factory.mktemp("lab"))) as ready:
        yield ready


@pytest.fixture(scope="session")
def other(lab: Lab) -> Party:
    """Another registered client."""
    return lab.add_client("other")


@pytest.fixture(scope="session")
def rsa(lab: Lab) -> Party:
    """A client whose one key is RSA for RS256."""
    return lab.add_client("rsa", private_key(RSA_PAIR, "RS256"))


@pytest.fixture(scope="session")
def wide(lab: Lab) -> Party:
    """A client of both APIs without any default scope."""
    return lab.add_client("wide", allow={"orders": ["orders:read", "orders:write"], "stock": ["stock:read"]})


@pytest.fixture
def fresh_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Lab]]:
    """Make a server of one's own: `settings` is what its configuration says besides the issuer."""
    with ExitStack() as stack:

        def make(settings: str = DEFAULTS, **options: Any) -> Lab:
            return stack.enter_context(running(prepare(tmp_path_factory.mktemp("lab"), settings, **options)))

        yield make
