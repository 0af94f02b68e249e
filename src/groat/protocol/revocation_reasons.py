"""Why somebody may not ask about a token or take it back, and why one does not count, in the form of `reasons`."""

from typing import Final

REVOCATION_TEXT: Final = """
caller_method
    Who asks about tokens is no API that proves itself by a key.
    groat api key add NAME FILE, and an assertion whose iss and sub are the name of the API.
caller_token
    The access token of who asks about another one is over, of another issuer, or without the right to ask.
    Its client has the name of the API and may ask the issuer's own API for the scope groat:introspect.
introspection_credentials
    The signed form was asked for by somebody who does not say who he is.
    Authenticate: the unsigned form would be refused, too.
revoked_ahead
    Everything issued before a second that has not come yet by this host's clock is over, so nothing can be issued.
    Set the clocks; groat revoke list has the second.
token_missing
    The request names no token.
    Send it as token, in the body.
token_of_another
    The token is not of the client that wants to take it back.
    A client revokes its own; operators revoke any: groat revoke token.
wait
    How long to wait for news of what was taken back is no whole number of seconds, or is said twice.
    GET /revocations?wait=30, or without it.
token_type
    It is something else that this server signed, and nothing that can be taken back.
    Revoke the access token.
"""
