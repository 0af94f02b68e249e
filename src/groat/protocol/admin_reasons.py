"""What the admin API says when it refuses: the text of a table of reasons.py."""

from typing import Final

ADMIN_TEXT: Final = """
    admin_body
        The body is no JSON of the type that the operation takes.
        The hint names the member; /admin/openapi.json has what may stand there.
    admin_conflict
        The change collides with what is registered, or was.
        The hint says with what.
    admin_credentials
        The request has no access token, and did not come over the socket from somebody who needs none.
        groat admin token --scope groat:read; or ask over admin.socket as root or as the server's user.
    admin_input
        The request can be read, and cannot be right.
        The hint says why.
    admin_media_type
        The body is of another type than JSON, or coded.
        Send application/json, or application/merge-patch+json with PATCH.
    admin_peer
        A user asks over the socket who is no operator.
        Add the number of the user to admin.socket_users, if it is one.
    admin_query
        A parameter of the URL is unknown, there twice, or has no such value.
        The hint names it.
    admin_scope
        The token of the caller does not cover this operation, or its client may not have that scope any more.
        Grant it: groat client update ID --allow groat-admin=groat:read,groat:write.
    admin_stale
        What was to be changed is no more as it was when it was read.
        Read it again, look, and send the new ETag in If-Match.
    admin_token
        The access token is none of this server's for its admin API, or over, or its proof is missing.
        The hint says which; groat admin token gets one.
    admin_unknown
        There is no API, client, key, trust or refusal of that name.
        Look at the list.
    admin_unmatched
        A change of something that exists came without If-Match.
        Send the ETag of what was read; with dry_run=true none is needed.
"""
