"""Kubernetes TokenReview: what a cluster is asked about a token, and what counts as a yes (AS-WI-03).

A signature says that a token was made. Whether its pod still runs, and its service account is still that one, the
cluster alone knows (authentication.k8s.io/v1, "TokenReview").
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from groat.protocol import strict_json
from groat.protocol.differences import shown
from groat.protocol.errors import JoseError

PATH: Final = "/apis/authentication.k8s.io/v1/tokenreviews"
_TYPE: Final[Mapping[str, Any]] = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview"}


def question(token: str, audiences: Sequence[str]) -> bytes:
    """Whether this token counts for one of these audiences."""
    return strict_json.dumps({**_TYPE, "spec": {"token": token, "audiences": list(audiences)}})


def is_answer(document: Mapping[str, Any]) -> bool:
    """Whether it is a reviewed token at all; anything else says nothing about one."""
    return all(document.get(name) == value for name, value in _TYPE.items()) and isinstance(
        document.get("status"), dict
    )


def check_answer(document: Mapping[str, Any], audiences: Sequence[str], subject: str) -> None:
    """Whether the cluster vouches for the token, as this subject's and for one of the audiences. Raises JoseError.

    Its reason is "gone". A server that knows no audiences names none, and says nothing about ours
    (TokenReviewStatus, `audiences`).
    """
    status = document["status"]
    if status.get("authenticated") is not True:
        why = status.get("error")
        raise JoseError("gone", "the cluster says that it counts no more" + (f": {shown(why)}" if why else ""))
    found = status.get("audiences")
    if not isinstance(found, list) or not set(audiences) & {value for value in found if isinstance(value, str)}:
        raise JoseError("gone", "the cluster does not vouch for the audience")
    user = status.get("user")
    if not isinstance(user, dict) or user.get("username") != subject:
        raise JoseError("gone", "the cluster says that it is somebody else's")
