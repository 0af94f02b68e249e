"""Which extra of the distribution brings a package that is not installed."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

EXTRAS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "click": "client",
        "httpx": "client",
        "httpx2": "client",
        "rich": "server",
        "starlette": "server",
        "uvicorn": "server",
        "uvloop": "server",
        "httptools": "server",
        "msgspec": "server",
        "prometheus_client": "server",
        "psycopg": "postgres",
        "ruamel": "yaml",
        "pkcs11": "pkcs11",
        "boto3": "aws",
        "botocore": "aws",
        "fastapi": "fastapi",
        "flask": "flask",
        "django": "django",
        "rest_framework": "drf",
        "aiohttp": "aiohttp",
        "grpc": "grpc",
        "mcp": "mcp",
        "requests": "requests",
    }
)


def extra_of(error: ModuleNotFoundError) -> str | None:
    """The extra that brings what could not be imported; None for what no extra brings."""
    return EXTRAS.get((error.name or "").partition(".")[0])


def needs_extra(module: str, error: ModuleNotFoundError) -> ModuleNotFoundError:
    """What a module of ours raises whose framework is missing: it says what to install.

    The error itself where something else is missing, inside of a framework that is there.
    """
    extra = extra_of(error)
    if extra is None:
        return error
    return ModuleNotFoundError(f'{module} needs {error.name}: pip install "groat[{extra}]"', name=error.name)
