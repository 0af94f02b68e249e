"""The URL of the store: what it may be, and how to show it without the password that it may hold."""

import re
from typing import Final
from urllib.parse import unquote_to_bytes

from groat.protocol.grammar import BROKEN_ESCAPE

POSTGRES_SCHEMES: Final = ("postgresql://", "postgres://")
MAX_PORT: Final = 65535
AWKWARD_PASSWORD: Final = (
    "it is read as another host, port or database than was meant. Percent-encode the password (@ is %40, / is %2F), "
    "or leave it out and give it by PGPASSWORD or PGPASSFILE"
)
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]]*)(?::(\d{0,5}))?")


def masked_url(url: str) -> str:
    """The URL with *** for every password in it: before the @, or among the parameters."""
    url = re.sub(r"(://[^:/@]*):.*@", r"\1:***@", url)
    return re.sub(r"([?&][^=&]*password=)[^&]*", r"\1***", url)


def url_without_password(url: str) -> str:
    """What may be written to a file that is not secret."""
    if not url.startswith(POSTGRES_SCHEMES):
        return url
    url = re.sub(r"(://[^:/@]*):.*@", r"\1@", url)
    head, _, query = url.partition("?")
    kept = [part for part in query.split("&") if part and "password=" not in part]
    return head + ("?" + "&".join(kept) if kept else "")


def storage_fault(url: str, origin: str) -> str | None:
    """Why this storage.url cannot be used. No text repeats it: it may hold a password."""
    if url.startswith("sqlite:///") and len(url) > len("sqlite:///"):
        return None
    if not url.startswith(POSTGRES_SCHEMES):
        return "storage.url must be sqlite:///PATH or postgresql://USER@HOST/DATABASE"
    if origin in ("file", "flag") and url_without_password(url) != url:
        return (
            "storage.url must not hold a password here, where others may read it: write the whole URL to a private "
            "file and name that in GROAT_STORAGE__URL_FILE, or use PGPASSFILE"
        )
    return postgres_url_fault(url)


def postgres_url_fault(url: str) -> str | None:
    """Why libpq could take a part of the password for something else, which errors and logs do show.

    Not told: a password of digits in the place of a port, or of letters in that of a host; they look like one.
    """
    _, _, rest = url.partition("://")
    if not _is_encoded(rest):
        return f"storage.url holds what must be percent-encoded in a URL: {AWKWARD_PASSWORD}"
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    _, found, hosts = authority.rpartition("@")
    _, _, query = rest.partition("?")
    if rest.count("@") > len(found) or not all(map(_is_host, hosts.split(","))) or not _are_parameters(query):
        return f"storage.url is ambiguous: {AWKWARD_PASSWORD}"
    return None


def _is_encoded(text: str) -> bool:
    """No space, no control character, nothing but UTF-8; a % only before two hexadecimal digits other than 00."""
    if re.search(r"[\s\x00-\x1f\x7f]|%00", text) or BROKEN_ESCAPE.search(text):
        return False
    try:
        unquote_to_bytes(text).decode()
    except UnicodeError:  # also where the variable itself is no UTF-8
        return False
    return True


def _is_host(text: str) -> bool:
    match = _HOST.fullmatch(text)
    return match is not None and int(match[2] or 0) <= MAX_PORT


def _are_parameters(query: str) -> bool:
    """Whether these are NAME=VALUE each; behind a password another name than libpq's is a part of that password."""
    secret = False
    for name, equals, value in (part.partition("=") for part in query.split("&") if part):
        if not equals or "=" in value or not re.fullmatch("[a-z_]+", name) or (secret and not _is_parameter(name)):
            return False
        secret = secret or name.endswith("password")
    return True


def _is_parameter(name: str) -> bool:
    """Whether libpq knows the name; where libpq is missing no connection is made, and no error quotes anything."""
    try:
        from psycopg.pq import Conninfo
    except ImportError:
        return True
    return name == "ssl" or name.encode() in {option.keyword for option in Conninfo.get_defaults()}
