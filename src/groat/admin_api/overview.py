"""What there is, in one answer."""

from typing import Any, Final

import groat
from groat.admin_api.documents import Overview
from groat.admin_api.rows import Ask, Row
from groat.keys.ring.keyring import active_key
from groat.server.operations.expiries import client_expiries
from groat.server.operations.store import look_at_store


async def _look(ask: Ask) -> Any:
    operator, config = ask.operator, ask.desk.config
    store, now, fault = operator.store, operator.now, await ask.desk.health.fault()
    keys, numbers = await store.signing_keys(), await store.count_clients()
    signer = active_key(keys, now)
    return {
        "issuer": config.policy.issuer,
        "version": groat.__version__,
        "profile": config.policy.profile.value,
        "ready": fault is None,
        "reason": None if fault is None else fault.reason,
        "registry_version": (await look_at_store(operator)).registry_version,
        "apis": len(await store.list_apis()),
        "clients": numbers[0],
        "clients_disabled": numbers[1],
        "trusts": len(await store.list_trusts()),
        "signing_kid": None if signer is None else signer.kid,
        "next_rotation_at": None if signer is None else signer.retires_at,
        "client_keys_expiring": len(await client_expiries(store, now, config.client_keys.key_warning)),
    }


ROWS: Final = (Row(method="GET", path="/overview", operation="store.look", answer=_look, gives=Overview),)
