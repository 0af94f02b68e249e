"""Every reason that a refusal can have: what it means, and what to do.

A reason is one word of a closed set: the log, the metrics and /readyz name it, docs/reference/reasons.md explains it,
and no peer ever sees it. Each table below is one voice; the same word may mean something else in another one. A table
is text: a word, below it what it means, below that what helps.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from groat.protocol.admin_reasons import ADMIN_TEXT
from groat.protocol.revocation_reasons import REVOCATION_TEXT
from groat.protocol.verifier_reasons import VERIFIER_TEXT
from groat.protocol.workload_reasons import WORKLOAD_TEXT


@dataclass(frozen=True, slots=True)
class Reason:
    """One word, what it means and what to do about it, each as one line."""

    code: str
    meaning: str
    remedy: str


def _table(text: str) -> Mapping[str, Reason]:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    rows = [Reason(*lines[at : at + 3]) for at in range(0, len(lines), 3)]
    return MappingProxyType({row.code: row for row in rows})


# What is wrong with a request before anybody asks who sent it; 400, 404, 405, 408, 413 or 500.
REQUEST: Final = _table(
    """
    admin_host
        The admin listener was asked by a name that is not one of its own.
        Add the name to admin.hosts, if it is really that host's.
    auth_methods
        A request authenticates its client in more than one way.
        Send the assertion alone: no client_secret, no Authorization header.
    body_size
        The body is larger than a token request can be.
        Send the form alone; it fits 64 KiB many times.
    body_slow
        The body did not arrive in time.
        Look at the network of the caller, or at a proxy that holds bodies back.
    bug
        The server met something that it has no rule for.
        The traceback is in the log, as server.error with the same request id: report it.
    certificate_dialect
        A proxy that is named for one certificate header sent the one of another dialect as well.
        Have the proxy remove the headers of all others, as the recipes in deploy/ do; a caller may have written it.
    content_encoding
        The body is compressed.
        Send it plain.
    content_type
        Content-Type is missing, there twice, or not that of a form in UTF-8.
        Send application/x-www-form-urlencoded, once.
    disconnected
        The caller went away before its answer.
        Look at its timeout; whatever it sent may have been used up.
    form
        The body is no form: broken escapes, bytes that are not UTF-8, a parameter twice, too many of them.
        The hint says which; let a library write the form.
    grant_type
        grant_type is missing, unknown here, or nothing that this client may use.
        Send client_credentials; groat client show says what the client may use.
    head
        The bytes are no HTTP request, or one with too many or too long header fields.
        Look at what speaks to this port; plain http to a TLS port looks like this, too.
    method
        There is something at this path, and not for this method.
        POST for /token and /client-keys, GET for the rest; /authorize refuses all alike.
    path
        Nothing is at this path.
        The paths are in /.well-known/oauth-authorization-server.
    query
        A parameter of the protocol stands in the URL, where proxies log it.
        Send it in the body, and sign a new assertion: the one in the URL may have been read.
    response_type
        A library began to sign somebody in at /authorize; nobody signs in here.
        Have it use the client credentials grant; /authorize is in the metadata because libraries demand one.
    """
)

# Whose the request is, or that it is nobody's; 401 for all of them (429 for throttled).
CLIENT: Final = _table(
    """
    assertion_algorithm
        The algorithm of the assertion is outside the profile, not that of its key, or not the client's own.
        The hint names both; groat client show has what is registered.
    assertion_audience
        The assertion was signed for somebody else than this issuer alone.
        Set aud to the issuer; the hint has the command that also allows this client the token endpoint.
    assertion_claims
        A claim of the assertion is missing or of the wrong type.
        The hint names it.
    assertion_expired
        The assertion is over.
        Sign a new one for each request; if it is new, set the caller's clock.
    assertion_issuer
        iss and sub of the assertion are not both the client id.
        Set both to it.
    assertion_key
        The client has no key of that kid, or several where none is named.
        groat client key add, or for a client that publishes its keys, publish this one.
    assertion_lifetime
        The assertion lives longer than this client's may, or was signed long ago.
        Five minutes at most; the hint has the command for more, where more is possible.
    assertion_malformed
        The assertion is no signed JWT in the strict sense.
        The hint says what; let a library write it.
    assertion_method
        client_assertion_type is not that of a JWT.
        Send urn:ietf:params:oauth:client-assertion-type:jwt-bearer.
    assertion_not_yet
        The assertion begins in the future.
        Set the caller's clock.
    assertion_replayed
        The jti of the assertion was used before.
        Sign a new one with a new jti for each request, repeated ones included.
    assertion_signature
        The signature is not that of the client's key, or something was changed afterwards.
        groat client key list: its owner may have a new key that is not registered.
    assertion_subject
        sub of the assertion is no client id, or the form names another client.
        Set sub to the client id; a token that a platform signed is no assertion.
    assertion_type
        The assertion says that it is another kind of JWT.
        Set typ to client-authentication+jwt.
    auth_method
        The request proves nothing, or by a method that this server does not have.
        Send a signed assertion (private_key_jwt), or a certificate where this server takes them.
    certificate_client
        A certificate came and no other proof, and client_id does not say whose it is.
        Send client_id (RFC 8705 2), or a signed assertion.
    certificate_name
        The certificate is signed by the client's authority, for another name than the client's.
        The hint has the name that is registered; groat client update changes it.
    certificate_unknown
        The certificate is neither registered for the client nor signed by its authority.
        groat client update --certificate FILE, or --certificate-ca FILE with a name.
    certificate_revoked
        The certificate is the client's, and its authority has taken it back, or one above it.
        Its authority issues another one; if it should count still, the list in tls.client_crl_file is to be mended.
    certificate_list
        The authority has a list of revoked certificates here, and that does not count: it is over, or not its own.
        Put a newer list into tls.client_crl_file; it is read again by itself.
    certificate_untrusted
        The certificate is the client's, but does not count: its dates, what it may be used for, or those above it.
        The hint says what is wrong with it; its authority issues another one.
    client_disabled
        The client proved who it is, and an operator has disabled it.
        groat client enable, if that is over.
    client_unknown
        No enabled client of that name is registered.
        groat client add, or correct the name.
    key_expired
        The key is the client's, and over.
        groat client key update with a later --expires, or a new key.
    key_not_yet_valid
        The key is the client's, and not valid before a later moment.
        Wait, or groat client key update with another --not-before.
    throttled
        Too many failures of one source or client came before this one.
        It ends by itself within a minute; the lines before say what failed.
    """
)

# What an authenticated client may have; 400.
GRANT: Final = _table(
    """
    resource
        The resource is unknown, not granted to the client, or several would fit.
        The hint names those that are; groat client update --allow grants another.
    scope
        The scope is malformed or not granted to the client, or none was asked and it has no default.
        The hint names what is granted; groat client update --allow grants more.
    token_size
        The token would be too large for the header limits of common proxies.
        Ask for fewer scopes at a time.
    """
)

# Whether the caller holds the key that its token is to be bound to; 400.
PROOF: Final = _table(
    """
    certificate_missing
        The client's tokens must be bound to a certificate, and none came with the request.
        The hint says why none came; docs/guides/certificates.md has what the listener or the proxy needs.
    dpop_algorithm
        The proof of possession is signed by an algorithm that is not in the list, or not that of its key.
        Use one of dpop_signing_alg_values_supported in the metadata; dpop.algorithms sets them.
    dpop_claims
        A claim of the proof is missing or of the wrong type.
        The hint names it; jti, htm, htu and iat must be there.
    dpop_expired
        The proof was signed too long ago.
        Sign one for each request; if it is new, set the caller's clock, or demand nonces.
    dpop_header
        A request has more than one DPoP header.
        Send one.
    dpop_key
        The header of the proof has no public key that could be used, or a private one.
        The hint says what is wrong with it; a private key that was sent is to be replaced.
    dpop_malformed
        The proof is no signed JWT in the strict sense.
        The hint says what; a gateway that joins headers by commas makes such ones, too.
    dpop_method
        htm of the proof is another method than that of the request.
        Set htm to POST, in capitals.
    dpop_missing
        The client, the API or the profile demands bound tokens, and the request has no proof, nor what else would do.
        Have the client send DPoP proofs; groat client update or api update --binding any or none, if it need not.
    dpop_nonce
        The proof has no nonce where one is demanded, or one that is not of this server and of now.
        The client tries again with the nonce of the answer; nothing was used up.
    dpop_not_yet
        The proof was signed in the future.
        Set the caller's clock, or demand nonces.
    dpop_replayed
        The jti of the proof was used before, with the same key.
        Sign a new proof with a new jti for each request, repeated ones included.
    dpop_signature
        The proof is not signed by the key in its header, or something was changed afterwards.
        Sign it with the private half of that key.
    dpop_type
        The JWT in the DPoP header says that it is another kind of JWT.
        Set typ to dpop+jwt.
    dpop_url
        htu of the proof is not the URL of the token endpoint.
        The hint has both; use the URL of the metadata, letter by letter.
    """
)

# A client registers its next key at /client-keys; 400 or 401, and 429 for the pace.
ENROLMENT: Final = _table(
    """
    endorsement_algorithm
        The current key's word for the new one uses an algorithm outside the profile.
        Endorse with a key that the profile allows.
    endorsement_audience
        The endorsement was signed for somebody else.
        Set aud to the issuer, as one string.
    endorsement_claims
        A claim of the endorsement is missing, of the wrong type, or not about this client and this key.
        The hint names it; groat client key rotate writes it right.
    endorsement_expired
        The endorsement is over.
        Sign a new one; if it is new, set the caller's clock.
    endorsement_lifetime
        The endorsement lives longer than one may.
        Five minutes at most.
    endorsement_malformed
        The endorsement is no signed JWT in the strict sense.
        Let groat client key rotate write it.
    endorsement_not_yet
        The endorsement begins in the future.
        Set the caller's clock.
    endorsement_retirement
        retire_after, the time that the current key gives itself, is outside its bounds.
        The hint has the bounds.
    endorsement_type
        The endorsement says that it is another kind of JWT.
        Let groat client key rotate write it.
    enrolment_fields
        The form has other fields than a proof with a join code or an endorsement.
        Send proof, and one of code and endorsement, each once.
    enrolment_key
        The new key cannot be registered: another client has it, or this one has too many.
        The hint says which; make another key, or remove one.
    enrolment_pace
        The client changes its keys too often.
        Wait as long as Retry-After says.
    enrolment_replayed
        This join code or endorsement was used before.
        groat client invite makes another code; an endorsement is signed anew each time.
    join_code
        The join code is none of this server's, over, or for another client.
        groat client invite makes another one.
    proof_algorithm
        The new key's algorithm is outside the profile, or not the one that the proof says.
        Make a key that the profile allows.
    proof_audience
        The proof was signed for somebody else.
        Set aud to the issuer, as one string.
    proof_claims
        A claim of the proof is missing or of the wrong type.
        The hint names it.
    proof_expired
        The proof is over.
        Sign a new one; if it is new, set the caller's clock.
    proof_key
        The proof brings no public key that could be registered.
        The hint says what is wrong with it.
    proof_lifetime
        The proof lives longer than one may.
        Five minutes at most.
    proof_malformed
        The proof is no signed JWT in the strict sense, or the key in it is not written as it must be.
        The hint says what.
    proof_not_yet
        The proof begins in the future.
        Set the caller's clock.
    proof_signature
        The proof is not signed by the key that it brings.
        Sign it with the private half of that key.
    proof_type
        The proof says that it is another kind of JWT.
        Let groat client join write it.
    """
)

# Why there is no token from anybody's request now; 503, and what /readyz says.
UNAVAILABLE: Final = _table(
    """
    clock_behind
        This server's clock is behind what the store has seen.
        Set the clock.
    clock_in_doubt
        Whether this host's clock is right cannot be told, so nothing is done that cannot be taken back.
        Set the clocks; groat store show has both.
    clock_skew
        This server's clock and the database's differ by more than 30 s.
        Set the clocks.
    log_unavailable
        The log takes no lines, and no token leaves without one.
        Make room; it recovers by itself.
    overloaded
        256 token requests are in work in this process, or its connections are used up.
        Add capacity.
    review_unavailable
        The cluster that a trust asks whether a token still counts does not answer, or not so.
        The hint says what; the token it is asked with must be allowed to create tokenreviews.
    signer_unavailable
        The custodian of the signing key does not answer, or the key cannot be opened.
        docs/guides/custody.md has what each custodian needs.
    signing_key_lost
        The private half of the key that should sign is gone, and no other is known to every verifier yet.
        groat key activate KID --now, or groat key retire KID --now.
    signing_key_missing
        No key is to sign now.
        groat key rotate, or where one waits, groat key activate KID --now; or is this host's clock wrong?
    signing_key_withdrawn
        The key was revoked while the token was being made.
        The client asks again.
    store_busy
        More requests wait for the store than it can take.
        Nothing was used up; add capacity.
    store_closed
        The store's contents moved to another one by groat store copy.
        Set storage.url to that one and restart; groat store reopen, if the copy came to nothing.
    store_floor
        The assertion or join code was made before the moment from which the store's memory is complete.
        The client signs a new one; groat client invite makes a new code.
    store_unavailable
        The store does not answer or takes no writes: away, locked, disk full, read-only.
        groat store show, and store.down in the log; it recovers by itself.
    """
)

# What the verifier of an API says in its own log; 400, 401, 403 or 503.
VERIFIER: Final = _table(VERIFIER_TEXT)

# The admin API; the status is that of its class in admin_refusals.py.
ADMIN: Final = _table(ADMIN_TEXT)

# A token of another issuer, as a grant (400) or as client authentication (401).
WORKLOAD: Final = _table(WORKLOAD_TEXT)

# A token that is asked about, or taken back; 400 or 401, and 503 for the one reason of a new token.
REVOCATION: Final = _table(REVOCATION_TEXT)

# Headings of the page, and which table stands below.
TABLES: Final[Mapping[str, Mapping[str, Reason]]] = MappingProxyType(
    {
        "The request": REQUEST,
        "Who asks": CLIENT,
        "Who a workload is": WORKLOAD,
        "What may be had": GRANT,
        "Proof of possession": PROOF,
        "A client's next key": ENROLMENT,
        "Tokens that are asked about or taken back": REVOCATION,
        "Why there is no token now": UNAVAILABLE,
        "At an API": VERIFIER,
        "At the admin API": ADMIN,
    }
)
# The words of a JoseError that go on as a reason of somebody, with what stands before them.
PREFIXES: Final = ("assertion", "dpop", "endorsement", "proof", "workload")
