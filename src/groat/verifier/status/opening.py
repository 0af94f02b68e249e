"""From what an operator chose to what a verifier asks, for each issuer that it trusts."""

from collections.abc import Mapping
from types import MappingProxyType

from groat.protocol.errors import ConfigError
from groat.verifier.notices import Notices
from groat.verifier.status.feed import FeedStatus
from groat.verifier.status.introspection import IntrospectionStatus
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
    return MappingProxyType(found)


def _opened(chosen: Revocation, publisher: Publisher, unknown: Unknown, audience: str) -> Status:
    if chosen.mode == Mode.LIST:
        return ListStatus(publisher, unknown, required=chosen.required, origins=tuple(chosen.origins))
    if chosen.mode == Mode.FEED:
        return FeedStatus(publisher, unknown, audience)
    return IntrospectionStatus(publisher, unknown, chosen)
