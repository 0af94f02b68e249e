"""The keys of a trusted issuer, from whatever source: a JWKS, or the bundle of a SPIFFE trust domain."""

from collections.abc import Mapping
from typing import Any

from groat.protocol.federation.preset import Preset
from groat.protocol.key_set import ReadKeySet, read_key_set


def read_keys(document: Mapping[str, Any], preset: Preset) -> ReadKeySet:
    """The usable keys of a set and the skipped entries; raises as `read_key_set`.

    A bundle also holds keys for other kinds of SVID, and entries that are to come: they are no keys of ours, and
    ignored (SPIFFE bundle 4.2.2). Its own count of changes is not looked at here.
    """
    entries = document.get("keys")
    if preset.key_use == "sig" or not isinstance(entries, list):
        return read_key_set(document)
    ours = [entry for entry in entries if isinstance(entry, dict) and entry.get("use") == preset.key_use]
    return read_key_set({"keys": [{**entry, "use": "sig"} for entry in ours]})
