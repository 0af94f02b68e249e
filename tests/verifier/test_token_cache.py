"""The memory of proven tokens: it may save work and nothing else."""

import pytest

from groat.protocol.jwk import generate_private_key
from groat.verifier import (
    InsufficientScope,
    InvalidToken,
    KeysUnavailable,
    Verifier,
)
from tests.verifier.issuer import JWKS, Answer, Clock, Issuer
from tests.verifier.tokens import ABSENT, refused


@pytest.mark.rule("RS-24", "R11", "R13")
def test_cached_token_ends_at_exp(issuer: Issuer, wall: Clock) -> None:
    """A remembered token is refused from the second of its exp on."""
    verifier = issuer.verifier(cache_size=100, clock=wall)
    token = issuer.token(exp=int(wall.now) + 60)
    first = verifier.verify(token)
    wall.now = int(wall.now) + 59.9
    assert verifier.verify(token) == first
    wall.now += 0.1
    with refused("expired"):
        verifier.verify(token)


@pytest.mark.rule("RS-24", "R11", "R16", "KEY-21")
def test_cached_token_ends_with_its_key(issuer: Issuer, monotonic: Clock) -> None:
    """A remembered token is refused once its key has left the set, and survives while the key stays."""
    verifier = issuer.verifier(cache_size=100, monotonic=monotonic)
    token = issuer.token()
    verifier.verify(token)
    issuer.rotate()
    verifier.warm_sync(force=True)
    assert verifier.verify(token).client_id == "billing"
    del issuer.keys[0]
    monotonic.now += 300
    with refused("key_unknown"):
        verifier.verify(token)


@pytest.mark.rule("RS-24", "KEY-10", "DEMO-18")
def test_cached_token_ends_when_its_kid_gets_another_key(issuer: Issuer) -> None:
    """A foreign server that gives an old kid to a new key ends what the old key had proven."""
    verifier = issuer.verifier(cache_size=100)
    token = issuer.token()
    verifier.verify(token)
    new = generate_private_key("ES256").public.jwk
    document = {"keys": [{**new, "kid": issuer.key.kid}]}
    issuer.document = lambda: document  # type: ignore[method-assign]
    verifier.warm_sync(force=True)
    with refused("signature"):
        verifier.verify(token)


@pytest.mark.rule("RS-24", "RS-21", "I7")
def test_cached_token_ends_with_max_stale(issuer: Issuer, monotonic: Clock) -> None:
    """The cache does not stretch the time for which old keys may serve."""
    verifier = issuer.verifier(cache_size=100, monotonic=monotonic, max_stale=1000)
    token = issuer.token()
    verifier.verify(token)
    issuer.spoil(JWKS, Answer(status=500))
    monotonic.now += 999
    assert verifier.verify(token).client_id == "billing"
    monotonic.now += 1
    with pytest.raises(KeysUnavailable):
        verifier.verify(token)


@pytest.mark.rule("RS-24", "RS-22", "R11")
def test_cache_asks_for_scopes_every_time(issuer: Issuer) -> None:
    """What a remembered token may do is decided anew on each call."""
    verifier = issuer.verifier(cache_size=100)
    token = issuer.token()
    verifier.verify(token, ["orders:read"])
    with pytest.raises(InsufficientScope):
        verifier.verify(token, ["orders:write"])


@pytest.mark.rule("R11")
def test_two_verifiers_share_nothing(issuer: Issuer) -> None:
    """What one API has accepted is not accepted by another in the same process."""
    mine = issuer.verifier(cache_size=100)
    other = Verifier(issuer.url, "https://other.example", cache_size=100)
    token = issuer.token()
    mine.verify(token)
    with refused("audience"):
        other.verify(token)
    for spoilt in (token[:-1], token + "A", token.swapcase(), token + "=="):
        with pytest.raises(InvalidToken):
            mine.verify(spoilt)


@pytest.mark.rule("RS-24", "I9")
def test_cache_is_bounded_and_exact(issuer: Issuer) -> None:
    """However many tokens pass, no more than cache_size are kept, and each gives back its own claims."""
    verifier = issuer.verifier(cache_size=10)
    tokens = [issuer.token(jti=f"jti-{n}", iat=1_700_000_000 + n, nbf=5, tags=[n % 2]) for n in range(50)]
    tokens += [issuer.token(jti="no-nbf", sub="user", scope=ABSENT, extra=None)]
    fresh = issuer.verifier()
    cache = verifier._cache
    assert cache is not None
    for token in tokens:
        for _ in range(3):
            assert verifier.verify(token) == fresh.verify(token)
            assert len(cache) <= 10
    with pytest.raises(TypeError):
        verifier.verify(tokens[-1]).claims["sub"] = "x"  # type: ignore[index]
