"""The keys that prove lists and feeds: those of the issuer's own set, as for its tokens."""

from dataclasses import dataclass

from groat.outbound.clocks import Clocks
from groat.protocol import jose
from groat.protocol.errors import VerificationError
from groat.protocol.jwk import PublicKey
from groat.verifier.keys.fetch import FetchError, KeyFetcher
from groat.verifier.keys.kept import wait_for
from groat.verifier.keys.source import KeySource


@dataclass(frozen=True, slots=True)
class Publisher:
    """One issuer, who publishes more than keys. `fetcher`: finds its metadata; `tolerance`: seconds, of its clock."""

    fetcher: KeyFetcher
    source: KeySource
    clocks: Clocks
    tolerance: int = 10

    @property
    def issuer(self) -> str:
        return self.fetcher.issuer

    def key(self, header: jose.Header) -> PublicKey:
        """The key of this header; blocks for the issuer's set where it has to be fetched. Raises FetchError."""
        try:
            found = self.source.known_key(header)
            if found is None:
                wait_for(self.source.board(header))
                found = self.source.verdict(header)
        except VerificationError as error:
            raise FetchError(f"no key proves it: {error.hint}") from None
        if header.algorithm.name not in found.algorithms:
            raise FetchError("the key is for another algorithm")
        return found
