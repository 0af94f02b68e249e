"""Tokens kept on disk between runs of a program, where the caller asks for it: command lines, jobs, scripts.

One file of mode 0600 per wish, replaced atomically, named by a digest of the wish and of the token endpoint. Whatever
is wrong with a file makes it a miss: the token is fetched then, and the file written anew. Anybody who can read the
files can use the tokens until they expire.
"""

import contextlib
import hashlib
import logging
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groat.client.retry import RefreshPolicy
from groat.client.token import Issued, Token, Wish
from groat.keys.files import make_private_directory, read_private_file, replace_private_file
from groat.outbound.clocks import Clocks
from groat.protocol import strict_json
from groat.protocol.errors import ConfigError, JoseError
from groat.protocol.grammar import ACCESS_TOKEN

logger = logging.getLogger("groat.client")


@dataclass(frozen=True, slots=True)
class TokenFiles:
    """The tokens in one directory, which is made (mode 0700) when the first token is kept.

    `endpoint`: the configured token endpoint, part of the key because two of them may be two servers.
    """

    directory: Path
    endpoint: str | None
    refresh: RefreshPolicy
    clocks: Clocks

    def find(self, wish: Wish) -> Issued | None:
        """The token of this wish, unless it is so old that it would be renewed, or the file is not as we write it."""
        try:
            document = strict_json.loads_object(read_private_file(self._path(wish)))
        except (ConfigError, JoseError):
            return None
        if not self._is_ours() or not _sound(document) or document.get("wish") != self._identity(wish):
            return None
        if not set(wish.scopes) <= set(document["scopes"]):
            return None  # kept by somebody who is content with less
        lifetime, expires_at = document["lifetime"], document["expires_at"]
        age = lifetime - (expires_at - self.clocks.now())
        if not 0 <= age < self.refresh.soft_age(lifetime, 1.0):
            return None
        kind = "Bearer" if wish.thumbprint is None else "DPoP"
        token = Token(document["token"], expires_at, tuple(document["scopes"]), kind)
        return Issued(token, self.clocks.monotonic() - age, lifetime)

    def keep(self, wish: Wish, issued: Issued) -> None:
        """Write a fresh token down; a failure is logged, because the token itself is good."""
        document = {
            "wish": self._identity(wish),
            "token": issued.token.value,
            "scopes": list(issued.token.scopes),
            "expires_at": issued.token.expires_at,
            "lifetime": issued.lifetime,
        }
        try:
            make_private_directory(self.directory)
            replace_private_file(self._path(wish), strict_json.dumps(document))
        except ConfigError as error:
            logger.warning("the token is not kept on disk: %s", error)

    def forget(self, wish: Wish, refused: Token) -> None:
        """Remove this very token, which an API has refused; a newer one stays."""
        path = self._path(wish)
        with contextlib.suppress(ConfigError, JoseError, OSError):
            if strict_json.loads_object(read_private_file(path)).get("token") == refused.value:
                path.unlink()

    def _is_ours(self) -> bool:
        """Nobody else may write to the directory, or the tokens in it could be of their choice."""
        try:
            status = os.stat(self.directory)
        except OSError:
            return False
        return os.name != "posix" or (status.st_uid == os.geteuid() and not status.st_mode & 0o022)

    def _identity(self, wish: Wish) -> list[Any]:
        """All that a token depends on, and last of what kind it is."""
        kind = "Bearer" if wish.thumbprint is None else f"DPoP {wish.thumbprint}"
        if wish.certificate is not None:
            kind += f" mtls {wish.certificate}"
        return [wish.issuer, self.endpoint, wish.client_id, wish.resource, list(wish.scopes), kind]

    def _path(self, wish: Wish) -> Path:
        digest = hashlib.sha256(strict_json.dumps({"wish": self._identity(wish)})).hexdigest()
        return self.directory / f"{digest[:40]}.token.json"


def _sound(document: dict[str, Any]) -> bool:
    times = (document.get("expires_at"), document.get("lifetime"))
    if any(isinstance(t, bool) or not isinstance(t, int | float) or not math.isfinite(t) for t in times):
        return False
    token, scopes = document.get("token"), document.get("scopes")
    if not isinstance(token, str) or not ACCESS_TOKEN.fullmatch(token):
        return False
    return document["lifetime"] > 0 and isinstance(scopes, list) and all(isinstance(s, str) for s in scopes)
