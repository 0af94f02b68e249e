"""Proofs of possession as a caller makes them (RFC 9449): one key for token requests and for calls of APIs.

The key is made in memory unless one is given, and its private half goes nowhere. Nonces are kept for each origin by
itself: those of an authorization server and of an API are not for each other (RFC 9449 8.2, 9).
"""

import os
import secrets
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from groat.client.fork import renew_in_child
from groat.client.key_file import KeyFile
from groat.protocol import jose, strict_json
from groat.protocol.dpop import MAX_NONCE_CHARS, PROOF_TYP, token_hash
from groat.protocol.errors import ConfigError
from groat.protocol.grammar import NQSCHARS
from groat.protocol.jwk import PrivateKey, base64url_encode, generate_private_key

JTI_BYTES: Final = 16
_LABELS: Final = ("kid", "use", "alg")  # of our JWKs, and of no use in a proof
ProofKey = bool | str | os.PathLike[str] | KeyFile | PrivateKey


class Possession:
    """Makes proofs by one key, and remembers the nonces of those who gave some. `now`: epoch seconds."""

    def __init__(self, load: Callable[[], PrivateKey], now: Callable[[], float]) -> None:
        self._load = load
        self._now = now
        self._loaded: tuple[PrivateKey, bytes] | None = None
        self._nonces: dict[str, str] = {}
        self.renew_after_fork()
        renew_in_child(self)

    def renew_after_fork(self) -> None:
        """The key stays: the tokens that a child inherits are bound to it."""
        self._lock = threading.Lock()

    @property
    def thumbprint(self) -> str:
        """Of the key, which is read now if it was not before. Raises KeyUnusable."""
        return self._key()[0].public.thumbprint

    def proof(self, method: str, url: str, token: str | None = None) -> str:
        """A new proof for one request; `token`: the access token that goes with it. Raises KeyUnusable."""
        key, header = self._key()
        parts = urlsplit(url)
        claims: dict[str, Any] = {
            "jti": secrets.token_urlsafe(JTI_BYTES),
            "htm": method,
            "htu": parts._replace(query="", fragment="").geturl(),
            "iat": int(self._now()),
        }
        if token is not None:
            claims["ath"] = token_hash(token)
        if nonce := self._nonces.get(_origin(url)):
            claims["nonce"] = nonce
        data = jose.signing_input(header, strict_json.dumps(claims))
        return (data + b"." + base64url_encode(jose.sign(data, key))).decode("ascii")

    def heed(self, url: str, headers: Mapping[str, str]) -> bool:
        """Remember the nonce in this answer of `url`'s origin, if there is one; whether it is another than before.

        Header names in lower case, or in any if the mapping does not care.
        """
        nonce = headers.get("dpop-nonce", "")
        if len(nonce) > MAX_NONCE_CHARS or NQSCHARS.fullmatch(nonce) is None:
            return False
        origin = _origin(url)
        before, self._nonces[origin] = self._nonces.get(origin), nonce
        return nonce != before

    def _key(self) -> tuple[PrivateKey, bytes]:
        """The key, which is read outside of the lock: a slow file holds nobody up who need not wait for it."""
        if (loaded := self._loaded) is not None:
            return loaded
        key = self._load()
        jwk = {name: value for name, value in key.public.jwk.items() if name not in _LABELS}
        header = strict_json.dumps({"typ": PROOF_TYP, "alg": key.algorithm, "jwk": jwk})
        with self._lock:
            # If several have read, and the file changed meanwhile, all go on with the key of the first.
            if self._loaded is None:
                self._loaded = key, base64url_encode(header)
            return self._loaded


def possession_of(key: ProofKey, now: Callable[[], float], *, kept: bool) -> Possession | None:
    """Who makes proofs for whatever the caller gave as `dpop`; None where there are to be none. Reads no file yet.

    `kept`: tokens outlive the process, so the key must. Raises ConfigError.
    """
    if key is False:
        return None
    if key is True:
        if kept:
            raise ConfigError("dpop=True makes a new key each time, so kept tokens could not be used: dpop=KEYFILE")
        made = generate_private_key("ES256")
        return Possession(lambda: made, now)
    if isinstance(key, PrivateKey):
        return Possession(lambda: key, now)
    if isinstance(key, str | os.PathLike | KeyFile):
        file = key if isinstance(key, KeyFile) else KeyFile(key)
        return Possession(file.load, now)
    raise ConfigError("dpop must be True, a path, a KeyFile or a PrivateKey")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}".lower()
