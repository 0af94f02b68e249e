"""`groat call`: fetch a token, call an API with it, and print what it answers."""

import contextlib
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from groat.cli.asked import ISSUER, LOCAL, Asked, asked_for, certificate_to_show, key_to_bind, note_narrowed
from groat.cli.identities import identity, who_asks
from groat.cli.session import Session
from groat.cli.told import Told, failure, read_all, show
from groat.protocol.errors import ConfigError
from groat.protocol.grammar import TOKEN

if TYPE_CHECKING:
    from groat.cli.watching import WatchedClient

SECONDS: Final = 30.0  # for each step of the call
_METHOD: Final = re.compile(r"[A-Za-z]+")
# A new one for each call, where `--dpop` has no value of its own.
_OWN_KEY: Final = ""
_OURS: Final = frozenset({"authorization", "dpop", "host", "content-length", "transfer-encoding"})


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of the API. `resource`: None where the API is to say it."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    resource: str | None
    scopes: Sequence[str]


@click.command()
@click.argument("words", nargs=-1, metavar="[METHOD] URL")
@who_asks
@click.option("--resource", metavar="URI", help="What the issuer calls the API; default: what the API says itself.")
@click.option("--scope", "scopes", multiple=True, metavar="SCOPE")
@ISSUER
@LOCAL
@click.option("--dpop", "proof_key", metavar="[KEYFILE]", is_flag=False, flag_value=_OWN_KEY,
              help="Bind the token to a key (DPoP): this one, or one for this call alone.")  # fmt: skip
@click.option("--certificate", metavar="FILE", help="Show this certificate to issuer and API. Needs no --key.")
@click.option("--certificate-key", metavar="FILE", help="The key of it, where it is not in the same file.")
@click.option("--data", metavar="FILE|-", help="Send this; POST unless METHOD says else, as JSON unless -H does.")
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME: VALUE", help="A header of the call.")
@click.pass_obj
def call(
    session: Session,
    words: tuple[str, ...],
    client_id: str | None,
    key_file: str | None,
    workload: str | None,
    alg: str | None,
    resource: str | None,
    scopes: tuple[str, ...],
    issuer: str | None,
    local: bool,
    proof_key: str | None,
    certificate: str | None,
    certificate_key: str | None,
    data: str | None,
    headers: tuple[str, ...],
) -> None:
    """Call an API with a token that is fetched for it; -v shows each request."""
    words, proof_key = _unmixed(words, proof_key)
    method, url = _method_and_url(words, data)
    if data == "-" == key_file:
        raise click.UsageError("--key - and --data - cannot both read standard input")
    asked = asked_for(session, issuer, local=local)
    shown = certificate_to_show(certificate, certificate_key, asked)
    if shown is not None and not url.startswith("https:"):
        raise ConfigError("--certificate: it is shown over TLS, which the API at that URL does not speak")
    who = identity(client_id, key_file, workload, alg, certified=shown is not None)
    wanted = Call(method, url, _headers(headers, data), _read_body(data), resource, scopes)
    keys = {"client_id": client_id, "key": who, "dpop": key_to_bind(proof_key, asked), "certificate": shown}
    told = _answered(session, wanted, asked, keys)
    show(session, told)
    if told.status >= 300:
        raise failure(f"{method} {url}", told, bound=proof_key is not None)


def _unmixed(words: tuple[str, ...], proof_key: str | None) -> tuple[tuple[str, ...], str | None]:
    """`--dpop` takes the next word for its key file, which may have been the method or the URL."""
    if proof_key is None or Path(proof_key).exists():
        return words, proof_key
    if "://" in proof_key:
        return (*words, proof_key), _OWN_KEY
    if len(words) == 1 and _METHOD.fullmatch(proof_key):
        return (proof_key, *words), _OWN_KEY
    return words, proof_key


def _method_and_url(words: Sequence[str], data: str | None) -> tuple[str, str]:
    *before, url = words or ("",)
    if not url or len(before) > 1 or not all(map(_METHOD.fullmatch, before)):
        raise click.UsageError("say [METHOD] URL, such as: groat call POST https://orders.example.com/orders")
    return (before[0].upper() if before else "GET" if data is None else "POST"), url


def _headers(lines: Sequence[str], data: str | None) -> dict[str, str]:
    found = {} if data is None else {"content-type": "application/json"}
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.strip().lower()
        if not colon or re.fullmatch(TOKEN, name) is None or not (value.isascii() and value.isprintable()):
            raise click.UsageError("-H takes NAME: VALUE in printable ASCII")
        if name in _OURS:
            raise click.UsageError(f"-H {name}: groat writes this header itself")
        found[name] = value.strip()
    return found


def _read_body(data: str | None) -> bytes | None:
    if data is None:
        return None
    if data == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(data).read_bytes()
    except OSError as error:
        raise ConfigError(f"--data {data}: {error.strerror}") from None


def _answered(session: Session, wanted: Call, asked: Asked, keys: dict[str, Any]) -> Told:
    """Which API it is, a token for that, and the call. `keys`: who calls, as `MachineClient` takes it."""
    from groat.cli.watching import Watch, WatchedClient
    from groat.client import MachineClient
    from groat.client.certificate import certificate_files

    watch, certificate = Watch(session.note) if session.verbose else None, certificate_files(keys["certificate"])
    if certificate is not None and watch is not None:
        session.note(f"the certificate: x5t#S256 {certificate.thumbprint}")
    machine = MachineClient(
        asked.issuer,
        **{**keys, "certificate": certificate},
        token_endpoint=f"{asked.address}/token" if asked.address is not None else None,
        http=lambda: WatchedClient(watch, certificate),
        allow_narrowed_scope=True,
    )
    with machine, contextlib.closing(WatchedClient(watch, certificate)) as http:
        resource = wanted.resource or _resource_of(wanted.url, asked.issuer, http)
        # The operator has named both: the API need not be where the issuer's name for it points.
        auth = machine.auth(resource, wanted.scopes, origins=[wanted.url])
        with asked.hinted():  # a token first: whose answer it was that failed is then known
            granted = machine.token(resource, wanted.scopes)
        note_narrowed(session, wanted.scopes, granted.scopes)
        return _send(wanted, http, auth)


def _send(wanted: Call, http: "WatchedClient", auth: Any) -> Told:
    from groat.client.wire import failures, unreachable

    try:
        client: Any = http.towards(wanted.url)
        headers = dict(wanted.headers)
        request = client.build_request(wanted.method, wanted.url, content=wanted.body, headers=headers, timeout=SECONDS)
        response = client.send(request, auth=auth, stream=True, follow_redirects=False)
        with contextlib.closing(response):
            return Told(response.status_code, dict(response.headers), read_all(wanted.url, response))
    except failures() as error:
        raise unreachable(wanted.url, error) from None


def _resource_of(url: str, issuer: str, http: "WatchedClient") -> str:
    """What the API calls itself, as `MachineClient.find_api` finds it, but watched."""
    from groat.client import IssuerNotTrusted, MetadataInvalid
    from groat.client.api_metadata import ApiReader, check_issuer
    from groat.client.wire import Transport

    transport = Transport(lambda: http)
    try:
        found = ApiReader(transport).find(url, transport.until(SECONDS))
        check_issuer(found, issuer)
    except (IssuerNotTrusted, MetadataInvalid) as error:
        error.hint = "say --resource URI, as the API is registered, if it is this API that you mean"
        raise
    return found.resource
