"""Bound tokens at an API: who presents one must show, for this very request, that he holds its key.

By a proof that is signed for the request (RFC 9449 7), or by the certificate of its connection (RFC 8705 3).
Everything here comes behind a token that is proven already, so that strangers cause no signature check and no memory.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, TypedDict

from groat.protocol.access_token import Caller
from groat.protocol.arguments import strings
from groat.protocol.binding import Binding
from groat.protocol.differences import shown
from groat.protocol.dpop import Life, Target, UnverifiedProof, check_proof, read_proof
from groat.protocol.dpop_nonce import Nonces
from groat.protocol.errors import (
    ConfigError,
    InvalidProof,
    InvalidToken,
    JoseError,
    ProofNonceRequired,
    ReplayStoreUnavailable,
    VerificationError,
)
from groat.protocol.htu import normal_url
from groat.protocol.models import OneTimeValue
from groat.protocol.passing import passing
from groat.protocol.proof_rules import NonceMode, ProofRules
from groat.protocol.resource_metadata import ProofsTaken
from groat.protocol.uris import check_endpoint
from groat.verifier.certificates import FROM_CONNECTION, Certificates, CertificateSource, prove_certificate
from groat.verifier.replay import ReplayMemory, ReplayStore, check_replay, open_replay
from groat.verifier.replay.shared import SharedMemory

MIN_SECRET_BYTES: Final = 16
_MODES: Final = tuple(mode.value for mode in NonceMode)


@dataclass(frozen=True, slots=True)
class Dpop:
    """How an API takes proofs of possession (RFC 9449 7 to 9, 11.1).

    `replay`: "memory" remembers proofs for as long as they are good (80 s at most, 310 s by nonces), in each process
    for itself; "sqlite:PATH" for the processes of a host; "postgresql://..." for all; "none" remembers nothing; or a
    `ReplayStore` of one's own. While a shared one is away, bound tokens get 503. `nonces`: "off"; "required" demands
    the nonce of a challenge in each proof, and then its time counts instead of the caller's clock; "optional": one that
    comes must be good. `nonce_secret`: at least 16 bytes, the same in all processes of the API and nowhere else; needed
    unless nonces are off. `required`: tokens that are bound to nothing are refused. Raises ConfigError.
    """

    replay: str | ReplayStore = field(default="memory", repr=False)  # a URL may hold a password
    nonces: str = "off"
    required: bool = False
    nonce_secret: bytes | str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        check_replay(self.replay)
        if self.nonces not in _MODES:
            raise ConfigError(f"Dpop.nonces must be {', '.join(_MODES[:-1])} or {_MODES[-1]}")
        if self.nonces != NonceMode.OFF and len(self._secret) < MIN_SECRET_BYTES:
            raise ConfigError(
                f"Dpop.nonces needs nonce_secret: {MIN_SECRET_BYTES} random bytes or more, the same in all processes"
            )

    @property
    def rules(self) -> ProofRules:
        """What proofs may be like."""
        return ProofRules(nonces=NonceMode(self.nonces))

    @property
    def issued(self) -> Nonces | None:
        """The nonces that are given out; None where there are none."""
        return None if self.nonces == NonceMode.OFF else Nonces([self._secret])

    @property
    def _secret(self) -> bytes:
        secret = self.nonce_secret or b""
        return secret.encode() if isinstance(secret, str) else secret


DEFAULT: Final = Dpop()


@passing()
class Shown:
    """A token that came as `Authorization: DPoP`: the method and URL of the request, and its DPoP headers.

    `offer`: is told the nonce that the answer should have, where there is a newer one.
    """

    method: str
    url: str
    proofs: Sequence[bytes | str]
    offer: Callable[[str], None] | None = None


# What came beside a token: proofs under the scheme DPoP, the certificate of the connection under Bearer.
Evidence = Shown | CertificateSource


class Presented(TypedDict, total=False):
    """What a request shows besides its token; see `Verifier.verify_request`."""

    method: str
    url: str
    dpop: Sequence[bytes | str]
    offer: Callable[[str], None]
    certificate: CertificateSource


PRESENTED: Final = frozenset(Presented.__annotations__)


def unexpected(presented: Presented) -> TypeError:
    """For a keyword that is misspelt: what it should have said would be missing otherwise, without a word."""
    odd = min(presented.keys() - PRESENTED)
    return TypeError(f"an unexpected keyword argument {odd!r}; there are {', '.join(sorted(PRESENTED))}")


def shown_of(presented: Presented) -> Shown:
    """What of it belongs to a token of the scheme DPoP."""
    return Shown(
        presented.get("method", ""), presented.get("url", ""), presented.get("dpop", ()), presented.get("offer")
    )


class Possession:
    """Judges, for one API, whether a caller may use the token that he presents.

    `chosen`: whether the operator has said anything of proofs; challenges then offer the scheme to everybody. `bases`:
    from `public_bases`. `binding`: what every token must be bound to. `monotonic`: seconds. Raises ConfigError.
    """

    def __init__(
        self,
        dpop: Dpop | None,
        bases: Sequence[str],
        binding: str = "none",
        certificates: Certificates | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        rules = dpop or DEFAULT
        self.demand = demanded_binding(binding, dpop)
        self.required = self.demand is not Binding.NONE
        self.certificates = certificates or FROM_CONNECTION
        self._certificates_said = certificates is not None
        self._chosen = dpop is not None
        self._rules = rules.rules
        self._nonces = rules.issued
        self._memory = open_replay(rules.replay, monotonic)
        # Whether a proof waits for a disk or a network, which an event loop must not.
        self.waits = self._memory is not None and not isinstance(self._memory, ReplayMemory)
        self._bases = tuple(bases)
        self.algorithms = tuple(sorted(self._rules.algorithms))

    def confirm(self, caller: Caller, token: str | bytes, evidence: Evidence, now: float) -> None:
        """Raises InvalidToken, InvalidProof, ProofNonceRequired, KeysUnavailable (the memory is full).

        InvalidBearerRequest where a proxy says more than one thing of the certificate. `caller`: of a token that is
        proven; `evidence`: None where it came as a bearer token and nobody knows a certificate, or without a request.
        Uses up the proof. Not checked: scopes; the certificate's times, chain and names, which are for who issued the
        token.
        """
        bound, proofs = caller.confirmation, evidence if isinstance(evidence, Shown) else None
        if bound is None:
            if proofs is not None or self.required:
                raise InvalidToken("binding", f"the token is bound to nothing; ask the issuer for one {self._wanted}")
            return
        if not self.demand.met_by(bound):
            raise InvalidToken("binding", f"the token is bound by {bound.kind}; this API takes those {self._wanted}")
        if bound.jkt is not None:
            if proofs is None:
                hint = "the token is bound to a key: send it as Authorization: DPoP, with a proof"
                raise InvalidToken("binding", hint)
            self._prove(bound.jkt, token if isinstance(token, str) else token.decode("ascii"), proofs, now)
        elif isinstance(evidence, Shown):
            hint = "the token is bound to a certificate: send it as Authorization: Bearer, over a connection with that"
            raise InvalidToken("binding", hint)
        else:
            prove_certificate(bound, evidence)

    @property
    def taken(self) -> ProofsTaken:
        """What the metadata say: certificates where somebody has said that they are to be had."""
        certificates = self._certificates_said or self.demand in (Binding.MTLS, Binding.ANY)
        return ProofsTaken(self.algorithms, self.demand is Binding.DPOP, certificates)

    @property
    def _wanted(self) -> str:
        return _WANTED[self.demand]

    def _prove(self, thumbprint: str, token: str, shown: Shown, now: float) -> None:
        if not shown.proofs:
            raise InvalidProof("dpop_missing", "the request has no DPoP header")
        try:
            proof = read_proof(shown.proofs, self._rules)
            life = self._nonce(proof, now)
            target = Target(shown.method, self._urls(shown.url), token)
            proven = check_proof(proof, target, self._rules, now, life)
        except JoseError as error:
            raise InvalidProof(f"dpop_{error.reason}", error.hint) from None
        if proven.thumbprint != thumbprint:
            raise InvalidToken("binding", "the proof is by another key than the one that the token is bound to")
        if self._memory is not None and not _is_first(self._memory, proven.once, now):
            raise InvalidProof("dpop_replayed", "this proof came before; sign a new one for each request")
        # Behind all else: what a stranger sends has no answer with a nonce but the challenge.
        if shown.offer is not None and self._nonces is not None and (newer := self._nonces.newer(proof.nonce, now)):
            shown.offer(newer)

    def _nonce(self, proof: UnverifiedProof, now: float) -> Life | None:
        """When the nonce is good, where it counts instead of iat. Raises ProofNonceRequired."""
        if self._nonces is None:
            return None
        needed = self._rules.nonces is NonceMode.REQUIRED
        life = None if proof.nonce is None else self._nonces.life(proof.nonce, now)
        if life is None and (needed or proof.nonce is not None):
            why = "no nonce" if proof.nonce is None else "a nonce that is stale, or not of this API"
            raise ProofNonceRequired("dpop_nonce", f"the proof has {why}; the answer has one for the next try")
        return life if needed else None

    def _urls(self, url: str) -> frozenset[str]:
        """Every URL by which this request may be known. Raises JoseError.

        Of what the request says of itself its path counts, never its host: that one the caller may choose.
        """
        path = _path(url)
        if not self._bases:
            raise JoseError("url", "the public URL of this API is not known; set public_url, or GROAT_PUBLIC_URL")
        if not path:
            raise JoseError("url", "nobody said which URL was asked for: this adapter takes no bound tokens")
        return _public_urls(self._bases, path)

    def close(self) -> None:
        """Close a memory that was opened here; a plug that was given stays its owner's."""
        if isinstance(self._memory, SharedMemory):
            self._memory.close()

    def challenge(self, error: VerificationError, dpop: bool, now: Callable[[], float]) -> None:
        """Write into a refusal which schemes it offers. `dpop`: whether that scheme was tried; `now`: for a nonce."""
        error.tried = "DPoP" if dpop else "Bearer"
        if self.demand is not Binding.MTLS and (self._chosen or dpop or error.reason == "binding"):
            error.proof_algorithms = self.algorithms
            error.bearer = self.demand is not Binding.DPOP
        if isinstance(error, ProofNonceRequired) and self._nonces is not None:
            error.nonce = self._nonces.current(now())


_WANTED: Final = {
    Binding.NONE: "with a DPoP proof",
    Binding.DPOP: "with a DPoP proof",
    Binding.MTLS: "over mutual TLS",
    Binding.ANY: "with a DPoP proof or over mutual TLS",
}


def demanded_binding(binding: str, dpop: Dpop | None) -> Binding:
    """What every token must be bound to, by the two ways to say so. Raises ConfigError where they differ."""
    try:
        demand = Binding(binding)
    except ValueError:
        raise ConfigError(f"require_binding must be one of {', '.join(Binding)}, not {shown(binding)}") from None
    if dpop is None or not dpop.required:
        return demand
    if demand not in (Binding.NONE, Binding.DPOP):
        raise ConfigError(f"Dpop(required=True) takes no tokens that require_binding={demand.value!r} asks for")
    return Binding.DPOP


def _is_first(memory: ReplayStore, proof: OneTimeValue, now: float) -> bool:
    """Raises ProofsUnavailable: nobody knows whether it came before, so it is not accepted."""
    try:
        return memory.first(proof, now)
    except VerificationError:
        raise
    except Exception as error:
        raise ReplayStoreUnavailable(f"the plug of Dpop.replay failed: {type(error).__name__}") from error


def public_bases(public_url: str | Sequence[str] | None, audience: str, hosts: frozenset[str]) -> tuple[str, ...]:
    """The URLs below which callers know this API, without final slashes.

    Unless they are given: the host of the audience, where that is a URL. Raises ConfigError.
    """
    if public_url is None:
        try:
            scheme, _, rest = normal_url(check_endpoint(audience, hosts)).partition("://")
        except (ConfigError, JoseError):
            return ()
        return (f"{scheme}://{rest.partition('/')[0]}",)
    given = (public_url,) if isinstance(public_url, str) else strings("public_url", public_url)
    if not given:
        raise ConfigError("public_url is an empty list; leave it out for the host of the audience")
    return tuple(_base(one, hosts) for one in given)


def _base(url: str, hosts: frozenset[str]) -> str:
    try:
        if "?" in url:
            raise ConfigError("it has a query")
        return normal_url(check_endpoint(url, hosts)).rstrip("/")
    except (ConfigError, JoseError):
        raise ConfigError("public_url must be the https URL by which callers know this API, without a query") from None


def _path(url: str) -> str:
    """The path of a request target or URL; empty for what has none."""
    path = url.partition("?")[0].partition("#")[0]
    if path.startswith("/"):
        return path
    scheme, mark, rest = path.partition("://")
    return "/" + rest.partition("/")[2] if mark and scheme.lower() in ("http", "https") else ""


@lru_cache(maxsize=512)  # of holders of good tokens alone, and no path is longer than a URL may be
def _public_urls(bases: tuple[str, ...], path: str) -> frozenset[str]:
    return frozenset(normal_url(_joined(base, path)) for base in bases)


def _joined(base: str, path: str) -> str:
    """A proxy may have taken the path of the public URL away, or left it."""
    origin = "/".join(base.split("/")[:3])
    prefix = base[len(origin) :]
    return origin + path if path == prefix or path.startswith(prefix + "/") else base + path


__all__ = [
    "DEFAULT",
    "PRESENTED",
    "Dpop",
    "Evidence",
    "Possession",
    "Presented",
    "Shown",
    "public_bases",
    "shown_of",
    "unexpected",
]
