"""Signers that may be out of reach: one that fails is a 503 with a reason, and /readyz knows of it."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from groat.keys.custody import KeyLost, LocalSigner, Signer
from groat.keys.custody.several import CannotSign, SignerUnavailable
from groat.protocol.jwk import PublicKey
from groat.server.unavailable import Unavailable

TRIAL_SECONDS: Final = 2.0
TRIAL_PAUSE_SECONDS: Final = 1.0
TRIAL: Final = b"groat: does this key sign?"  # without a dot no token


@dataclass(slots=True)
class RemoteSigner:
    """Signs over a network or a device. `fault`: why the last attempt failed, None if it did not."""

    signer: Signer
    forget: Callable[[], object]  # called when the key is lost: whoever asks next finds another
    fault: Unavailable | None = field(default=None, init=False)
    _tried: float = field(default=0.0, init=False)

    @property
    def public(self) -> PublicKey:
        return self.signer.public

    async def sign(self, data: bytes) -> bytes:
        """Raises Unavailable."""
        try:
            signature = await self.signer.sign(data)
        except (SignerUnavailable, KeyLost) as error:
            fault = unavailable_signer(error)
            if not isinstance(error, CannotSign):
                self.fault = fault
            if isinstance(error, KeyLost):
                self.forget()
            raise fault from None
        self.fault = None
        return signature

    async def check(self) -> None:
        """Where the last signature failed, try another, once a second at most. Raises Unavailable.

        Not found out: that a key which nobody uses would fail; each attempt costs money at some custodians.
        """
        if self.fault is None:
            return
        if time.monotonic() - self._tried < TRIAL_PAUSE_SECONDS:
            raise self.fault
        self._tried = time.monotonic()
        try:
            async with asyncio.timeout(TRIAL_SECONDS):
                await self.sign(TRIAL)
        except TimeoutError:
            raise Unavailable("signer_unavailable", f"no signature within {TRIAL_SECONDS:g} s") from None


def ready(signer: Signer, forget: Callable[[], object]) -> Signer:
    """The signer as the server uses it: those of this process as they are, others with their failures as 503."""
    return signer if isinstance(signer, LocalSigner) else RemoteSigner(signer, forget)


def unavailable_signer(error: Exception) -> Unavailable:
    """What to tell of a key that cannot be used."""
    reason = "signing_key_lost" if isinstance(error, KeyLost) else "signer_unavailable"
    return Unavailable(reason, str(error))
