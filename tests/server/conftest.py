"""The labs: servers of this process, one for most tests and fresh ones for those that break something."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from .lab import DEFAULTS, Lab, prepare, running


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The shared server: its throttle is out of the way, and tests add clients of their own to change them."""
    with running(prepare(tmp_path_factory.mktemp("lab"))) as ready:
        yield ready


@pytest.fixture
def fresh_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Lab]]:
    """Make a server of one's own: `settings` is what its configuration says besides the issuer."""
    with ExitStack() as stack:

        def make(settings: str = DEFAULTS, **options: str) -> Lab:
            return stack.enter_context(running(prepare(tmp_path_factory.mktemp("lab"), settings, **options)))

        yield make
