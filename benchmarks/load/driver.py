"""Load on a token endpoint: signed request bodies, wrk over them, and what they cost the server.

Nothing here judges a result: whether a refused request or a socket error spoils a run is for the
caller to say.
"""

import base64
import json
import os
import resource
import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlencode

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc import jwk

ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
SCRIPT = Path(__file__).with_name("token.lua")
DRAIN_SECONDS = 10  # how long wrk may wait for answers still out when the time is over
SIGNING_PROCESSES = 2
BODIES_PER_TASK = 2000
_RAW_MESSAGE = b"m" * 300  # the size of an assertion's signing input
_RAW_ROUNDS = 9
_RAW_CALLS = 50


class LoadError(RuntimeError):
    """A run that measured nothing: wrk is missing, failed, or printed no result."""


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What wrk saw: whole requests, seconds from first request to last answer, latencies in ms.

    `sent` is larger than `requests` when answers never came. wrk itself corrects the percentiles
    for coordinated omission, so a stall counts for the requests it held back too. `cpu_seconds`:
    what wrk itself took.
    """

    sent: int
    requests: int
    accepted: int
    refused: int
    statuses: Mapping[int, int]
    socket_errors: int
    seconds: float
    latency_p50_ms: float
    latency_p99_ms: float
    cpu_seconds: float = 0.0

    @property
    def accepted_per_second(self) -> float:
        """2xx answers a second; 0 when nothing was answered."""
        return self.accepted / self.seconds if self.seconds > 0 else 0.0

    @classmethod
    def from_json(cls, line: str) -> Self:
        """The last line token.lua prints."""
        fields: dict[str, Any] = json.loads(line)
        fields["statuses"] = {int(status): count for status, count in fields["statuses"].items()}
        return cls(**fields)


def run_wrk(url: str, bodies: Path, connections: int, seconds: float, proofs: Path | None = None) -> LoadResult:
    """POST each line of `bodies` once to `url` over keep-alive connections, from one wrk thread.

    `proofs`: a DPoP header value for each line, in a file of their own. Ends when the bodies or the seconds are used
    up and all answers are in. Never sends a body twice; a further run needs a file of its own. Raises LoadError. Does
    not follow redirects and reads no answer's content.
    """
    if bodies.stat().st_size == 0:
        raise LoadError(f"no request bodies in {bodies}")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    completed = subprocess.run(
        _wrk_command(url, connections, seconds),
        env={
            **os.environ,
            "GROAT_LOAD_BODIES": str(bodies.resolve()),
            "GROAT_LOAD_SECONDS": str(seconds),
            **({"GROAT_LOAD_PROOFS": str(proofs.resolve())} if proofs else {}),
        },
        capture_output=True,
        text=True,
        timeout=seconds + 3 * DRAIN_SECONDS,
        check=False,
    )
    lines = completed.stdout.splitlines()
    if completed.returncode != 0 or not lines or not lines[-1].startswith("{"):
        output = (completed.stderr or completed.stdout).strip()
        raise LoadError(f"wrk failed with status {completed.returncode}: {output}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return replace(LoadResult.from_json(lines[-1]), cpu_seconds=spent)


def _wrk_command(url: str, connections: int, seconds: float) -> list[str]:
    wrk = shutil.which("wrk")
    if wrk is None:
        raise LoadError("install wrk: apt-get install wrk")
    brake = int(seconds) + 1 + DRAIN_SECONDS
    arguments = ["-t1", f"-c{connections}", f"-d{brake}s", f"--timeout={DRAIN_SECONDS}s"]
    return [wrk, *arguments, "-s", str(SCRIPT), url]


def cpu_seconds(pids: Sequence[int]) -> float:
    """User plus system time of these processes so far, in seconds (steps of 10 ms).

    Children are not found by themselves: give their ids too (`process_tree`). Raises
    FileNotFoundError for one that is gone.
    """
    return sum(map(_cpu_ticks, pids)) / os.sysconf("SC_CLK_TCK")


def _cpu_ticks(pid: int) -> int:
    # The second field is the program's name in parentheses, and may hold spaces and parentheses.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def process_tree(pid: int) -> tuple[int, ...]:
    """The process and all its living descendants."""
    found = [pid]
    for parent in found:
        for children in Path(f"/proc/{parent}/task").glob("*/children"):
            found.extend(int(child) for child in children.read_text().split())
    return tuple(found)


def rss_bytes(pid: int) -> int:
    """Resident memory of one process in bytes, pages shared with others counted in full."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class _Algorithm:
    """One signature algorithm on the bare `cryptography` calls, without JSON or base64."""

    generate: Callable[[], Any]
    sign: Callable[[Any, bytes], bytes]
    verify: Callable[[Any, bytes, bytes], None]


def _ecdsa(curve: ec.EllipticCurve, digest: hashes.HashAlgorithm) -> _Algorithm:
    scheme = ec.ECDSA(digest)
    return _Algorithm(
        generate=partial(ec.generate_private_key, curve),
        sign=lambda key, message: key.sign(message, scheme),
        verify=lambda key, signature, message: key.verify(signature, message, scheme),
    )


def _rsa(scheme: padding.AsymmetricPadding) -> _Algorithm:
    digest = hashes.SHA256()
    return _Algorithm(
        generate=partial(rsa.generate_private_key, 65537, 3072),
        sign=lambda key, message: key.sign(message, scheme, digest),
        verify=lambda key, signature, message: key.verify(signature, message, scheme, digest),
    )


_ED25519 = _Algorithm(
    generate=ed25519.Ed25519PrivateKey.generate,
    sign=lambda key, message: key.sign(message),
    verify=lambda key, signature, message: key.verify(signature, message),
)
ALGORITHMS: Mapping[str, _Algorithm] = {
    "ES256": _ecdsa(ec.SECP256R1(), hashes.SHA256()),
    "ES384": _ecdsa(ec.SECP384R1(), hashes.SHA384()),
    "RS256": _rsa(padding.PKCS1v15()),
    "PS256": _rsa(padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)),
    "EdDSA": _ED25519,
    "Ed25519": _ED25519,
}


@dataclass(frozen=True, slots=True)
class _AssertionPlan:
    """What the bodies of one file share; it reaches other processes by pipe, never by argv."""

    client_id: str
    private_jwk: Mapping[str, Any]
    alg: str
    issuer: str
    resource: str | None
    scope: str | None
    issued_at: int
    lifetime: int


def presign_bodies(
    path: Path,
    count: int,
    *,
    client_id: str,
    private_jwk: Mapping[str, Any],
    alg: str,
    issuer: str,
    resource: str | None,
    scope: str | None,
    lifetime: int = 290,
    now: float | None = None,
) -> None:
    """Write `count` form bodies for /token, one a line, each with its own assertion (RFC 7523 2.2).

    All are issued now (epoch seconds) and expire `lifetime` seconds later: load them before that. Large counts
    are signed by two processes. `alg` is one of ALGORITHMS (KeyError); that it fits the key is not
    checked before signing.
    """
    plan = _AssertionPlan(client_id, private_jwk, alg, issuer, resource, scope, int(now or time.time()), lifetime)
    sizes = [BODIES_PER_TASK] * (count // BODIES_PER_TASK) + [count % BODIES_PER_TASK]
    with path.open("w", encoding="ascii") as file:
        if len(sizes) == 1:
            file.write(_signed_bodies(plan, sizes[0]))
            return
        # spawn: a caller may have threads and locks, which a forked child would inherit half alive.
        with ProcessPoolExecutor(SIGNING_PROCESSES, get_context("spawn")) as pool:
            file.writelines(pool.map(partial(_signed_bodies, plan), sizes))


def _signed_bodies(plan: _AssertionPlan, count: int) -> str:
    key = jwk.import_key(dict(plan.private_jwk)).private_key
    header = {"alg": plan.alg, "kid": plan.private_jwk["kid"], "typ": "client-authentication+jwt"}
    prefix = f"{_form_prefix(plan)}{_base64url_json(header)}."
    return "".join(_signed_body(plan, key, prefix) for _ in range(count))


def _form_prefix(plan: _AssertionPlan) -> str:
    fields = {
        "grant_type": "client_credentials",
        "client_assertion_type": ASSERTION_TYPE,
        "scope": plan.scope,
        "resource": plan.resource,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    return f"{urlencode(given)}&client_assertion="


def _signed_body(plan: _AssertionPlan, key: Any, prefix: str) -> str:
    claims = {
        "iss": plan.client_id,
        "sub": plan.client_id,
        "aud": plan.issuer,
        "iat": plan.issued_at,
        "exp": plan.issued_at + plan.lifetime,
        "jti": os.urandom(16).hex(),  # as random as real ones: a counter would flatter a database index
    }
    body = f"{prefix}{_base64url_json(claims)}"
    signing_input = body.rpartition("=")[2].encode("ascii")
    signature = _jws_signature(key, ALGORITHMS[plan.alg].sign(key, signing_input))
    return f"{body}.{_base64url(signature)}\n"


def _jws_signature(key: Any, signature: bytes) -> bytes:
    # RFC 7518 3.4: JWS wants r and s side by side at full width; the library gives DER.
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        return signature
    width = (key.key_size + 7) // 8
    return b"".join(number.to_bytes(width, "big") for number in decode_dss_signature(signature))


def _base64url_json(value: Mapping[str, Any]) -> str:
    return _base64url(json.dumps(value, separators=(",", ":")).encode())


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def raw_cost(alg: str) -> float:
    """CPU seconds of one bare verify plus one bare sign: no token endpoint can go below it here.

    Median of several rounds over 300 bytes. Base64, JSON and the conversion of ECDSA signatures
    are not in it.
    """
    return raw_verify_cost(alg) + raw_sign_cost(alg)


def raw_sign_cost(alg: str) -> float:
    """CPU seconds of one bare signature (3072 bits for RSA), median of several rounds."""
    algorithm = ALGORITHMS[alg]
    return _median_cpu_seconds(partial(algorithm.sign, algorithm.generate(), _RAW_MESSAGE))


def raw_verify_cost(alg: str) -> float:
    """CPU seconds of one bare signature check (3072 bits for RSA), median of several rounds."""
    return _median_cpu_seconds(raw_verification(alg))


def raw_verification(alg: str) -> Callable[[], object]:
    """One bare signature check, to be called again and again."""
    algorithm = ALGORITHMS[alg]
    key = algorithm.generate()
    signature = algorithm.sign(key, _RAW_MESSAGE)
    return partial(algorithm.verify, key.public_key(), signature, _RAW_MESSAGE)


def _median_cpu_seconds(call: Callable[[], object]) -> float:
    return statistics.median(_cpu_seconds_of_one(call) for _ in range(_RAW_ROUNDS))


def _cpu_seconds_of_one(call: Callable[[], object]) -> float:
    start = time.process_time()
    for _ in range(_RAW_CALLS):
        call()
    return (time.process_time() - start) / _RAW_CALLS
