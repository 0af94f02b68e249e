"""What an operator chooses: how an API hears that tokens were taken back, and what follows while nobody can say."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from groat.keys.files import read_private_file
from groat.keys.key_text import for_file, is_key_text
from groat.keys.private_key import read_private_key
from groat.protocol.arguments import strings
from groat.protocol.client_auth.private_key_jwt import NAME as BY_KEY
from groat.protocol.errors import ConfigError
from groat.protocol.jwk import PrivateKey
from groat.protocol.token_status import origin
from groat.verifier.keys.fetch import Post

MAX_CACHE_SECONDS: Final = 60.0
UNKNOWN: Final = ("refuse", "accept")


class Mode(StrEnum):
    """How an API hears of revocations."""

    NONE = "none"
    LIST = "list"
    FEED = "feed"
    INTROSPECTION = "introspection"


# From when on a token that was taken back is refused, while the issuer answers, as docs/guides/revocation.md says.
BOUNDS: Final = {
    Mode.NONE: "a token that was taken back counts until its end, 10 minutes unless its API has another lifetime",
    Mode.LIST: "refused within the list's ttl and 1 s, 31 s unless the server has another ttl",
    Mode.FEED: "refused within 2 s while the feed is connected",
    Mode.INTROSPECTION: "refused with the next question",
}


@dataclass(frozen=True, slots=True)
class Revocation:
    """How an API hears that tokens were taken back, where there is more to say than one word.

        Verifier(..., revocation=Revocation("introspection", api="orders", key_file="orders-api.key.json"))

    `mode`: "none", "list", "feed" or "introspection". Of lists: `required` refuses tokens without a status; `origins`
    are those besides the issuer's where lists may be (https://host). Of introspection: `api` and `key_file`, the name
    of the API at the issuer and the private key by which it asks (`groat api key add`), read anew for each question;
    or `token`, a function that gives an access token for it; `cache_seconds`, 0 to 60, for which an answer stays true:
    0 asks about every request; `post`, a callable (url, headers, body) -> Response that follows no redirects, where
    the verifier has an `http` of its own. Raises ConfigError.
    """

    mode: str
    required: bool = False
    origins: Sequence[str] = ()
    api: str = ""
    key_file: str | os.PathLike[str] | None = None
    token: Callable[[], str] | None = field(default=None, repr=False)
    cache_seconds: float = MAX_CACHE_SECONDS
    post: Post | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.mode not in (modes := [mode.value for mode in Mode]):
            raise ConfigError(f"revocation must be {', '.join(modes[:-1])} or {modes[-1]}")
        object.__setattr__(self, "origins", strings("Revocation.origins", self.origins))
        faults = [*self._list_faults(), *self._introspection_faults()]
        if faults:
            raise ConfigError(*faults)

    @property
    def bound(self) -> str:
        """What it promises, in words."""
        kept = self.cache_seconds if self.mode == Mode.INTROSPECTION else 0
        when = f", which is asked {kept:.0f} s after the last one at the latest" if kept else ""
        return BOUNDS[Mode(self.mode)] + when

    def key(self) -> PrivateKey:
        """The key of the API, as its file has it now. Raises ConfigError."""
        found = read_private_key(read_private_file(Path(self.key_file or "")))
        if isinstance(found, str):
            raise ConfigError(for_file(found, str(self.key_file)))
        return found

    def _list_faults(self) -> list[str]:
        of_lists = self.mode == Mode.LIST
        bad = [one for one in self.origins if origin(one) is None or not one.startswith(("https://", "http://"))]
        return [
            *(["Revocation.required is for lists"] if self.required and not of_lists else []),
            *(["Revocation.origins is for lists"] if self.origins and not of_lists else []),
            *(["Revocation.origins must hold origins such as https://lists.example.com"] if bad else []),
        ]

    def _introspection_faults(self) -> list[str]:
        asks, by_key = self.mode == Mode.INTROSPECTION, bool(self.api or self.key_file)
        if not asks:
            said = by_key or self.token is not None or self.post is not None
            return ["Revocation.api, key_file, token and post are for introspection"] if said else []
        faults = []
        if isinstance(self.key_file, str) and is_key_text(self.key_file):
            faults.append("Revocation.key_file is the text of a key, not a path")
        if (self.token is None) == (not by_key) or bool(self.api) != bool(self.key_file):
            needs = f"introspection needs Revocation(api=..., key_file=...) ({BY_KEY}), or token=..."
            faults.append(f"{needs}: the issuer answers who says who asks")
        if not 0 <= self.cache_seconds <= MAX_CACHE_SECONDS:
            faults.append(f"Revocation.cache_seconds must be 0 to {MAX_CACHE_SECONDS:.0f}")
        return faults


def chosen_revocation(given: "str | Revocation", on_unknown: str) -> Revocation:
    """What the keywords of a verifier say. Raises ConfigError."""
    if on_unknown not in UNKNOWN:
        raise ConfigError("on_status_unknown must be refuse or accept")
    return given if isinstance(given, Revocation) else Revocation(given)
