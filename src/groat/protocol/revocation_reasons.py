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
status_form
    A status list was asked for in a form that is not served, such as CWT.
    Send Accept: application/statuslist+jwt, or none.
status_list
    There is no such status list, or there was one and its last token is over.
    Take the address from the token; after a restore lists from after the backup are gone.
status_moved
    The API or the client was changed while a token for a status list was being made; nothing was issued.
    Ask again with a new assertion.
status_time
    A status list as it was at another time was asked for; none is kept.
    Leave the parameter time out.
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
