"""Why an API refuses a request, in the form of `reasons`."""

from typing import Final

VERIFIER_TEXT: Final = """
algorithm
    The token's algorithm is not accepted here, or not that of its key.
    Accept it with algorithms=, if the issuer really signs so.
audience
    The token is for another API.
    Ask for this one with resource; the hint says what differs.
binding
    The token is bound to a key and came without its proof, or to nothing where none may come so.
    The hint says which: send it as Authorization: DPoP with a proof by its own key.
certificate_dialect
    A proxy's request says a certificate in the header of another dialect than that of the proxy.
    A caller may have written it: have the proxy remove every such header but its own.
certificate_malformed
    The certificate of the caller cannot be read from what came; it is as good as none.
    The hint says what is wrong: look at what the proxy writes.
certificate_missing
    The token is bound to a certificate, and no certificate of this caller is known.
    Call with the certificate; behind a proxy, name it and its dialect (certificates=, GROAT_CERTIFICATE_PROXIES).
certificate_other
    The token is bound to another certificate than the one that the caller has shown.
    Get the token over the same certificate that you call the API with; after a renewal get a new one.
claims
    A claim is missing or of the wrong type.
    The hint names it; the tokens of some issuers need a dialect.
dpop_algorithm
    The proof of possession is signed by an algorithm that is not in the list, or not that of its key.
    Use one of algs in the challenge.
dpop_claims
    A claim of the proof is missing or of the wrong type.
    The hint names it; jti, htm, htu, iat and ath must be there.
dpop_expired
    The proof was signed too long ago.
    Sign one for each request; if it is new, set the caller's clock, or demand nonces.
dpop_full
    There is no room to remember a proof; 503, since none is accepted that could come twice.
    Spread the load over more processes.
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
    Sign a proof for each request; behind a proxy look which method it names.
dpop_missing
    The token came as DPoP, and the request has no DPoP header.
    Send a proof, or look which proxy drops the header.
dpop_nonce
    The proof has no nonce where one is demanded, or one that is not of this API and of now.
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
dpop_store
    The memory of proofs that processes share is away, full or of another time; 503: nobody knows what came before.
    The hint says what; no bound token is accepted until it is back.
dpop_token
    The proof was signed for another token than the one that it came with.
    Set ath to the hash of this one.
dpop_type
    The JWT in the DPoP header says that it is another kind of JWT.
    Set typ to dpop+jwt.
dpop_url
    htu of the proof is not the public URL of the request.
    The hint has both; set public_url (GROAT_PUBLIC_URL) to what callers write.
expired
    The token is over.
    The caller fetches a new one; if it is new, one of the clocks is wrong.
issuer
    The token is from an issuer that is not trusted here.
    The hint says what differs.
key_unavailable
    The issuer's keys cannot be had now.
    Look at keys not loaded in the log: it says why; tokens are accepted again by themselves.
key_unknown
    The issuer publishes no usable key of that name.
    An old key, or somebody else's token; the hint says if the key was skipped for its form.
malformed
    The Authorization header or the token in it is not written as it must be.
    Send one header: Bearer, a blank, the token.
missing
    There is no token, or it stands where none is read.
    Send it in the Authorization header.
not_yet
    The token begins in the future.
    One of the clocks is wrong.
revoked
    The token was taken back, or everything that was issued when it was; or its client is disabled.
    The caller fetches a new one; groat revoke list has what was taken back.
scope
    The token is good, and grants too little.
    Ask for the scope that the challenge names.
signature
    The signature is not that of the key.
    Somebody changed the token, or made it up.
status
    The token does not say where its status is, or names a list of another origin, or a place that the list has not.
    Use lists at the issuer for this API (groat api update --status list), or look who wrote the token.
status_unknown
    Nobody can tell now whether the token was taken back; 503, or accepted where on_status_unknown says so.
    Look at status not loaded in the log: it says why; tokens are accepted again by themselves.
suspended
    The token does not count at present: its client is disabled.
    groat client enable, if that is over; the same token then counts again until its end.
type
    The JWT is of another kind than an access token.
    Accept its type with accept_types=, if the issuer really writes it so.
unlisted
    The method of a gRPC server is open to nobody; whether there is one is not told.
    The hint names it: list it in methods=, or in exempt= if it is for everybody.
"""
