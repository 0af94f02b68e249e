"""The URL of the store: what it may be, and how to show it without the password that it may hold."""

import re
from typing import Final

POSTGRES_SCHEMES: Final = ("postgresql://", "postgres://")


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
    return None
