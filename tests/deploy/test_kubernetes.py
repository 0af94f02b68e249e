"""deploy/kubernetes/groat.yaml against the schemas of Kubernetes, and the promises that no schema knows."""

from typing import Any, Final

import pytest
import yaml
from kubernetes_validate import ValidationError, latest_version, validate

from .engine import DEPLOY

FILE: Final = DEPLOY / "kubernetes" / "groat.yaml"
DOCUMENTS: Final[list[dict[str, Any]]] = list(yaml.safe_load_all(FILE.read_text("utf-8")))
BY_KIND: Final = {document["kind"]: document for document in DOCUMENTS}


@pytest.mark.parametrize("kind", BY_KIND)
def test_each_document_fits_its_schema(kind: str) -> None:
    """Strictly: an unknown field is an error. The namespace is the one that the file makes."""
    validate(BY_KIND[kind], latest_version(), strict=True)
    assert kind == "Namespace" or BY_KIND[kind]["metadata"]["namespace"] == "groat"


def test_a_misspelt_field_would_be_noticed() -> None:
    """The check can fail."""
    with pytest.raises(ValidationError):
        validate({**BY_KIND["Deployment"], "spek": {}}, latest_version(), strict=True)


def test_nothing_is_missing() -> None:
    """Each kind once."""
    expected = {
        "Namespace", "ConfigMap", "ServiceAccount", "Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy",
    }  # fmt: skip
    assert expected == set(BY_KIND)
    assert len(DOCUMENTS) == len(BY_KIND)


@pytest.mark.rule("OPS-05")
def test_pods_meet_the_restricted_standard() -> None:
    """The fields that the Pod Security Standard "restricted" demands, and a root file system nobody writes to."""
    pod = BY_KIND["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert (pod["securityContext"]["runAsNonRoot"], pod["securityContext"]["runAsUser"]) == (True, 10001)
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    writable = {mount["name"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"tmp"}


def test_secrets_come_by_file() -> None:
    """From Secret volumes that root hands to the group; no variable holds a secret or refers to one."""
    pod = BY_KIND["Deployment"]["spec"]["template"]["spec"]
    modes = {volume["name"]: volume["secret"]["defaultMode"] for volume in pod["volumes"] if "secret" in volume}
    assert modes == {"keys": 0o440, "database": 0o440}
    (container,) = pod["containers"]
    assert all("valueFrom" not in variable for variable in container["env"])
    assert "envFrom" not in container
    assert "Secret" not in BY_KIND


def test_selectors_find_the_pods() -> None:
    """Service, budget, policy and spreading mean the labels that the pods carry; the budget leaves room to roll."""
    spec = BY_KIND["Deployment"]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels == BY_KIND["Service"]["spec"]["selector"]
    assert BY_KIND["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
    assert BY_KIND["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] == labels
    assert BY_KIND["PodDisruptionBudget"]["spec"]["minAvailable"] < spec["replicas"]
    (container,) = spec["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert BY_KIND["NetworkPolicy"]["spec"]["ingress"][0]["ports"] == [{"port": port["containerPort"]}]


def test_the_configuration_is_one_that_groat_takes(tmp_path: Any) -> None:
    """The file in the ConfigMap is read by the real reader; only the database is added, as its Secret would."""
    from groat.server.settings.config import load_config

    (tmp_path / "groat.toml").write_text(BY_KIND["ConfigMap"]["data"]["groat.toml"])
    config = load_config(tmp_path / "groat.toml", {})
    (container,) = BY_KIND["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert config.listener.port == container["ports"][0]["containerPort"]
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(config.key_files.encryption_key_file.parent) in mounts
