"""From what an operator chose to what a verifier asks, for each issuer that it trusts."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final
from weakref import WeakKeyDictionary

from groat.protocol.errors import ConfigError
from groat.verifier.keys.fetch import FetchError
from groat.verifier.notices import Notices
from groat.verifier.status.feed import FeedReader, FeedStatus
from groat.verifier.status.introspection import Asker, IntrospectionStatus
from groat.verifier.status.lists import ListStatus
from groat.verifier.status.publisher import Publisher
from groat.verifier.status.question import Status, Unknown
from groat.verifier.status.revocation import Mode, Revocation, chosen_revocation
from groat.verifier.trust import KeySources, Trust


def open_statuses(
    given: str | Revocation, on_unknown: str, keys: KeySources, trusts: Mapping[str, Trust]
) -> Mapping[str, Status] | None:
    """How the revocations of each issuer are heard of, by its name; None where nobody listens. Raises ConfigError."""
    chosen = chosen_revocation(given, on_unknown)
    if chosen.mode == Mode.NONE:
        return None
    if chosen.mode == Mode.INTROSPECTION and keys.http is not None and chosen.post is None:
        raise ConfigError("with http= introspection needs Revocation(post=...) as well: questions go by POST")
    notices = Notices(keys.clocks.monotonic)
    found: dict[str, Status] = {}
    for issuer, trust in trusts.items():
        publisher = Publisher(trust.source.fetcher, trust.source, keys.clocks, trust.expected.clock_tolerance)
        unknown = Unknown(issuer, on_unknown == "accept", notices, keys.observer)
        found[issuer] = _opened(chosen, publisher, unknown, trust.expected.audience)
        _all[found[issuer]] = issuer
    return MappingProxyType(found)


def forget(issuer: str) -> None:
    """Whoever in this process knows what this issuer took back asks it anew; for tests."""
    for status, whose in list(_all.items()):
        if whose == issuer:
            status.forget()


_all: "Final[WeakKeyDictionary[Status, str]]" = WeakKeyDictionary()


def _opened(chosen: Revocation, publisher: Publisher, unknown: Unknown, audience: str) -> Status:
    if chosen.mode == Mode.LIST:
        return ListStatus(publisher, unknown, required=chosen.required, origins=tuple(chosen.origins))
    if chosen.mode == Mode.FEED:
        return FeedStatus(publisher, unknown, audience)
    return IntrospectionStatus(publisher, unknown, chosen)


def ask_once(chosen: Revocation, publisher: Publisher, audience: str) -> str:
    """What the issuer says to a first question, in words; blocks. Raises FetchError."""
    if chosen.mode == Mode.FEED:
        visit = FeedReader(publisher, audience).visit(None, 0)
        if visit.problem is not None or visit.feed is None:
            raise visit.problem or FetchError("the feed of revocations did not come")
        return f"the feed can be had, its number is {visit.feed.seq}"
    if chosen.mode == Mode.INTROSPECTION:
        Asker(publisher, chosen).active("none")
        return "the issuer answers this API's questions"
    return "which list that is, the first token says" if chosen.mode == Mode.LIST else ""
