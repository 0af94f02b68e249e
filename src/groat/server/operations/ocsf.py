"""Rows of the audit trail as events of the Open Cybersecurity Schema Framework, for what collects such.

Entity Management, class 3004 of category 3, as OCSF 1.3.0 has it: each row is something done to one managed entity.
What OCSF has no place for stands in `unmapped`.
"""

import json
from typing import Any, Final

import groat
from groat.server.store.audit_chain import FORGOTTEN
from groat.server.store.audit_trail import AuditRow

OCSF_VERSION: Final = "1.3.0"
CATEGORY: Final = 3
CLASS: Final = 3004
_INFORMATIONAL: Final = 1
_SUCCESS: Final = 1
_OTHER: Final = 99
_CREATE, _UPDATE, _DELETE, _ENABLE, _DISABLE = 1, 3, 4, 8, 9
# By how an operation's name ends; whatever else is told by what was there before and after.
_BY_NAME: Final = {"enabled": _ENABLE, "disabled": _DISABLE, "invited": _UPDATE, "removed": _DELETE}


def ocsf_event(row: AuditRow) -> dict[str, Any]:
    """One event; `time` in milliseconds. `metadata.uid` is the hash of the row, `metadata.sequence` its number."""
    activity = _activity(row)
    kind, _, name = row.object.partition("/")
    entity: dict[str, Any] = {"name": name or kind, "uid": row.object, "type": kind}
    return {
        "activity_id": activity,
        "activity_name": row.operation,
        "category_uid": CATEGORY,
        "class_uid": CLASS,
        "type_uid": CLASS * 100 + activity,
        "severity_id": _INFORMATIONAL,
        "status_id": _SUCCESS,
        "time": row.at * 1000,
        "message": f"{row.operation} {row.object} by {row.actor}",
        "actor": _actor(row),
        "entity": entity | _data(row.before),
        "entity_result": entity | _data(row.after),
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": "groat", "vendor_name": "groat", "version": groat.__version__},
            "log_name": "audit",
            "event_code": row.operation,
            "uid": row.hash,
            "sequence": row.seq,
        },
        "unmapped": {
            "face": row.face,
            "actor": row.actor,
            "registry_version": row.registry_version,
            "previous": row.previous,
        },
    }


def _activity(row: AuditRow) -> int:
    if row.operation == FORGOTTEN:
        return _OTHER
    ending = row.operation.rpartition(".")[2]
    # A key that is removed or ended is an update of its client.
    if ending in _BY_NAME and not (ending == "removed" and row.after is not None):
        return _BY_NAME[ending]
    if row.before is None:
        return _CREATE
    return _DELETE if row.after is None else _UPDATE


def _data(document: str | None) -> dict[str, Any]:
    try:
        return {} if document is None else {"data": json.loads(document)}
    except ValueError:  # a damaged row is told as well
        return {}


def _actor(row: AuditRow) -> dict[str, Any]:
    """The account, where there was one; else the client or the server, as an application."""
    words = dict(word.partition(":")[::2] for word in row.actor.split(" "))
    user = {name: words[word] for name, word in (("name", "user"), ("uid", "uid")) if word in words}
    application = words.get("client") or words.get("server")
    return (
        {"app_name": f"groat {row.face}"}
        | ({"app_uid": application} if application else {})
        | ({"user": user} if user else {})
    )
