"""A workload's own identity: the token that its platform has signed, in place of a key (RFC 7523 2.1, 2.2).

Here are the files and variables in which platforms leave such tokens; whom else to ask for one is in
`platform_endpoints`. A token is read or asked for anew for each request, and never kept.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from groat.client.aws_source import AwsSource
from groat.client.errors import KeyUnusable
from groat.client.platform_endpoints import AzureSource, GithubSource, GoogleSource
from groat.client.platform_token import MAX_WORKLOAD_TOKEN_BYTES, checked_token
from groat.client.spiffe_source import SpiffeSource
from groat.protocol.client_auth.private_key_jwt import JWT_BEARER, JWT_SPIFFE
from groat.protocol.errors import ConfigError
from groat.protocol.grammar import BASE64URL_ALPHABET

KUBERNETES_PATH: Final = "/var/run/secrets/groat/token"
GITLAB_VARIABLE: Final = "GROAT_ID_TOKEN"


class TokenSource(Protocol):
    """Where the token of a workload comes from.

    `read`: the token for this audience, or why there is none; an exception from there would carry it in its frames.
    `replaced`: somebody else puts a new one in its place, so a second look may find another.
    """

    @property
    def replaced(self) -> bool: ...

    def read(self, audience: str) -> str | KeyUnusable: ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file that the platform replaces: a projected volume of Kubernetes, spiffe-helper, a CI."""

    path: Path
    hint: str = ""
    replaced = True

    def read(self, audience: str) -> str | KeyUnusable:
        """Its whole content, whatever audience it is for."""
        try:
            with self.path.open("rb") as file:
                raw = file.read(MAX_WORKLOAD_TOKEN_BYTES + 1)
        except OSError as error:
            problem = error.strerror or type(error).__name__
            return KeyUnusable(f"workload token {self.path}: {problem}", hint=self.hint)
        return checked_token(raw, f"workload token {self.path}", "the file")


@dataclass(frozen=True, slots=True)
class VariableSource:
    """A variable of the environment, which stays as it was when the job began."""

    variable: str
    replaced = False

    def read(self, audience: str) -> str | KeyUnusable:
        """Its value, whatever audience it is for."""
        value = os.environ.get(self.variable)
        if not value:
            return KeyUnusable(
                f"workload token: {self.variable} is not set",
                hint=f"in the job: id_tokens: {{{self.variable}: {{aud: {audience}}}}}",
            )
        raw = value.encode("utf-8", "replace")[: MAX_WORKLOAD_TOKEN_BYTES + 1]
        return checked_token(raw, f"workload token {self.variable}", "the variable")


@dataclass(frozen=True, slots=True)
class WorkloadIdentity:
    """A token that the platform has signed for this workload; read, or asked for, anew at every attempt.

    `WorkloadIdentity(PATH)` is `WorkloadIdentity.file(PATH)`. `assertion_type`: the value of client_assertion_type, for
    platforms with a type of their own. `as_grant`: send it as the JWT bearer grant (RFC 7523 2.1) instead of as the
    client's authentication (2.2); by default just where no client_id is given, so that the server finds the client by
    its rules. A refusal leads to no other way. Not checked: what the token says, which is between the platform and the
    authorization server. No I/O before the first token is wanted; KeyUnusable then. Raises ConfigError for a path that
    is the text of a token.
    """

    path: str | os.PathLike[str] | None = None
    assertion_type: str = JWT_BEARER
    as_grant: bool | None = None
    source: TokenSource = field(default=None, kw_only=True, repr=False)  # type: ignore[assignment]  # made of the path

    def __post_init__(self) -> None:
        if self.source is None:
            object.__setattr__(self, "source", FileSource(_path(self.path)))

    def __repr__(self) -> str:
        return f"WorkloadIdentity({self.source!r})"

    @classmethod
    def file(cls, path: str | os.PathLike[str], *, as_grant: bool | None = None) -> "WorkloadIdentity":
        """A file that somebody replaces before the token in it ends. Raises ConfigError."""
        return cls(path, as_grant=as_grant)

    @classmethod
    def kubernetes(
        cls, path: str | os.PathLike[str] = KUBERNETES_PATH, *, as_grant: bool | None = None
    ) -> "WorkloadIdentity":
        """The service account's token in a projected volume, whose `audience` is the issuer. Raises ConfigError."""
        hint = f"mount a projected serviceAccountToken there; default: {KUBERNETES_PATH}"
        return cls(path, as_grant=as_grant, source=FileSource(_path(path), hint))

    @classmethod
    def github(cls, *, audience: str | None = None, as_grant: bool | None = None) -> "WorkloadIdentity":
        """The OIDC token of a GitHub Actions job with `id-token: write`; `audience`: default the issuer."""
        return cls(as_grant=as_grant, source=GithubSource(audience))

    @classmethod
    def gitlab(cls, variable: str = GITLAB_VARIABLE, *, as_grant: bool | None = None) -> "WorkloadIdentity":
        """The ID token of a GitLab CI job, in the variable that `id_tokens` names. It is not renewed in the job."""
        return cls(as_grant=as_grant, source=VariableSource(variable))

    @classmethod
    def google(cls, *, audience: str | None = None, as_grant: bool | None = None) -> "WorkloadIdentity":
        """The identity token of the service account, of Google's metadata server; `audience`: default the issuer."""
        return cls(as_grant=as_grant, source=GoogleSource(audience))

    @classmethod
    def azure(
        cls, *, audience: str | None = None, identity: str | None = None, as_grant: bool | None = None
    ) -> "WorkloadIdentity":
        """The Entra token of a managed identity, of IMDS, App Service or Container Apps.

        `audience`: the application ID URI that stands for the issuer in Entra; default the issuer. `identity`: the
        client id of a user-assigned identity.
        """
        return cls(as_grant=as_grant, source=AzureSource(audience, identity))

    @classmethod
    def spiffe(
        cls,
        path: str | os.PathLike[str] | None = None,
        *,
        socket: str | None = None,
        audience: str | None = None,
        as_grant: bool | None = None,
    ) -> "WorkloadIdentity":
        """A JWT-SVID of the agent (Workload API, extra `grpc`), or of the file that spiffe-helper writes.

        As authentication by its own type. `socket`: unix:///PATH or tcp://ADDRESS:PORT, default SPIFFE_ENDPOINT_SOCKET;
        `audience`: default the issuer. Raises ConfigError for a path besides one of these.
        """
        if path is None:
            return cls(None, JWT_SPIFFE, as_grant, source=SpiffeSource(socket, audience))
        if socket is not None or audience is not None:
            raise ConfigError("spiffe: a file has its token already: name it, or a socket and an audience")
        hint = "spiffe-helper writes it: jwt_svids in its configuration"
        return cls(path, JWT_SPIFFE, as_grant, source=FileSource(_path(path), hint))

    @classmethod
    def aws(cls, *, audience: str | None = None, as_grant: bool | None = None) -> "WorkloadIdentity":
        """A token of STS for whatever AWS credentials are here (extra `aws`); `audience`: default the issuer."""
        return cls(as_grant=as_grant, source=AwsSource(audience))


_BY_NAME: Final[Mapping[str, Callable[[str | None, str | None], WorkloadIdentity]]] = {
    "file": lambda path, _: WorkloadIdentity.file(_needed(path)),
    "kubernetes": lambda path, _: WorkloadIdentity.kubernetes(path or KUBERNETES_PATH),
    "github": lambda _, audience: WorkloadIdentity.github(audience=audience),
    "gitlab": lambda _, __: WorkloadIdentity.gitlab(),
    "google": lambda _, audience: WorkloadIdentity.google(audience=audience),
    "azure": lambda _, audience: WorkloadIdentity.azure(audience=audience),
    "spiffe": lambda path, audience: WorkloadIdentity.spiffe(path, audience=audience),
    "aws": lambda _, audience: WorkloadIdentity.aws(audience=audience),
}
PLATFORMS: Final = tuple(_BY_NAME)
_WITH_PATH: Final = ("file", "kubernetes", "spiffe")
_WITH_AUDIENCE: Final = ("github", "google", "azure", "spiffe", "aws")


def identity_of(platform: str, path: str | None = None, audience: str | None = None) -> WorkloadIdentity:
    """What a platform's name means in GROAT_WORKLOAD. Raises ConfigError, also for what that platform does not use."""
    make = _BY_NAME.get(platform)
    if make is None:
        raise ConfigError(f"a workload is of one of {', '.join(PLATFORMS)}")
    if path is not None and platform not in _WITH_PATH:
        raise ConfigError(f"GROAT_ASSERTION_FILE is nothing to {platform}, but to {', '.join(_WITH_PATH)}")
    if audience is not None and platform not in _WITH_AUDIENCE:
        raise ConfigError(f"GROAT_WORKLOAD_AUDIENCE is nothing to {platform}, whose token has its audience already")
    return make(path, audience)


def _needed(path: str | None) -> str:
    if path is None:
        raise ConfigError("GROAT_ASSERTION_FILE is not set: the file with the workload's token")
    return path


def _path(path: str | os.PathLike[str] | None) -> Path:
    """Raises ConfigError; a token given by mistake is not shown."""
    if path is None or path == "":
        raise ConfigError("the path of a workload's token is missing")
    text = os.fspath(path)
    if text.startswith("eyJ") and text.encode("utf-8", "replace").translate(None, BASE64URL_ALPHABET) == b"..":
        raise ConfigError("WorkloadIdentity takes the path of a token's file, not the token")
    return Path(text)
