"""deploy/kubernetes/registry.yaml: schemas, and that its Job's command makes the registry of its ConfigMap."""

from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from kubernetes_validate import latest_version, validate

from tests.cli.running import ISSUER, Home

from .engine import DEPLOY

DOCUMENTS: Final[list[dict[str, Any]]] = list(
    yaml.safe_load_all((DEPLOY / "kubernetes" / "registry.yaml").read_text("utf-8"))
)
CONFIG_MAP, JOB = DOCUMENTS
SERVERS: Final[list[dict[str, Any]]] = list(
    yaml.safe_load_all((DEPLOY / "kubernetes" / "groat.yaml").read_text("utf-8"))
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document["kind"])
def test_each_document_fits_its_schema(document: dict[str, Any]) -> None:
    """Strictly: an unknown field is an error."""
    validate(document, latest_version(), strict=True)
    assert document["metadata"]["namespace"] == "groat"


def test_the_job_is_as_fenced_in_as_the_servers() -> None:
    """The same rights, the same Secret, and labels of its own: no Service sends requests there."""
    pod, (deployment,) = JOB["spec"]["template"]["spec"], [one for one in SERVERS if one["kind"] == "Deployment"]
    server = deployment["spec"]["template"]["spec"]
    assert pod["containers"][0]["securityContext"] == server["containers"][0]["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert {volume["name"] for volume in pod["volumes"]} - {"registry"} <= {one["name"] for one in server["volumes"]}
    assert JOB["spec"]["template"]["metadata"]["labels"] != deployment["spec"]["template"]["metadata"]["labels"]


def test_its_command_makes_the_registry(tmp_path: Path) -> None:
    """On a store of this machine; a second run finds nothing to do."""
    home = Home(tmp_path)
    home.ok("init", "--issuer", ISSUER)
    (tmp_path / "registry").mkdir()
    for name, content in CONFIG_MAP["data"].items():
        home.file(f"registry/{name}", content)
    (container,) = JOB["spec"]["template"]["spec"]["containers"]
    words = [word.replace("/registry/", "registry/") for word in container["args"]]
    assert home.ok("--json", *words).json["added"] == 3
    assert home.ok("--json", *words).json["outcome"] == "unchanged"
