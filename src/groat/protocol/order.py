"""The fixed order of the checks of a token request: where several things are wrong, the first of these answers.

What is cheap and public comes first, so that a request that nobody could serve costs no signature; what only a
registered client can fail comes after its signature, so that nobody else learns it. A jti is used up by whoever got as
far as `once`, whatever comes after. Not in here: what is refused for lack of room or by the throttle.
"""

from typing import Final

ORDER: Final = (
    "method",  # POST alone
    "size",  # of the body, as it is declared and as it comes
    "content_type",  # a form, in UTF-8
    "content_encoding",  # none
    "query",  # no parameter of the protocol in the URL
    "decoding",  # few fields, whole escapes, UTF-8
    "repeats",  # no parameter twice
    "auth_methods",  # one at most
    "grant_type",  # there is one
    "grant_known",  # it is one that this server has
    "assertion_kind",  # an assertion comes with its type
    "proof_form",  # one DPoP header at most, and a proof in it
    "nonce",  # of this server and of now, where the proof needs one; so far nothing was paid for, nothing used up
    "assertion",  # a JWT in the strict sense that names a client
    "algorithm",  # in the profile; typ says no other kind of JWT
    "signature",  # by a key of that client
    "key_limits",  # a key that counts now
    "client_rules",  # the algorithm that the client is pinned to, its strict typ
    "enabled",  # the client
    "claims",  # iss, sub, aud, the times, jti
    "proof",  # its key, its signature, for this request, of now
    "once",  # the jti of the assertion is new
    "proof_once",  # and that of the proof
    "binding",  # there is a proof if the client or the profile wants one
    "grant_allowed",  # to this client
    "resource",  # one that the client may name
    "scope",  # granted there
    "api_binding",  # there is a proof if that API wants one
)
