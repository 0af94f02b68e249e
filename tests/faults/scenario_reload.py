"""F17: settings, certificates and the key-encryption key change while requests come in."""

import base64
import datetime
import json
import secrets
import signal
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest
from cryptography import x509

from benchmarks.load.presenter import BackgroundLoad
from groat.demo.local_ca import LocalCa

from .balancers import haproxy
from .deployment import Deployment, Replica, wait_until
from .sizes import SIZES
from .verdicts import judge, record, require_kept

LOCAL: Final = "localhost"
WAIT_SECONDS: Final = 30.0


def count_of(replica: Replica, event: str) -> int:
    return sum(line["event"] == event for line in replica.events())


def hang_up(replicas: list[Replica], event: str) -> None:
    """SIGHUP to each; returns once each has written one more line of this kind."""
    before = [count_of(replica, event) for replica in replicas]
    for replica in replicas:
        replica.signal(signal.SIGHUP)
    for replica, seen in zip(replicas, before, strict=True):
        wait_until(partial(has_more, replica, event, seen), WAIT_SECONDS, f"{event} at {replica.name}")


def has_more(replica: Replica, event: str, than: int) -> bool:
    return count_of(replica, event) > than


@pytest.mark.rule("F17", "I1", "OPS-01")
def test_f17_settings_are_reloaded_under_load(store: str, deployment: Deployment) -> None:
    """Good files and bad ones in turn: each request gets its token, with the lifetime of one of the good files."""
    (caller,) = deployment.initialise("billing")
    replicas = deployment.start(2)
    with BackgroundLoad(caller.sign(3000), deployment.targets, 60, 8) as load:
        for turn in range(SIZES.graceful_stops * 4):
            bad = turn % 3 == 2
            for replica in replicas:
                set_settings(replica, lifetime="soon" if bad else ("10m", "5m")[turn % 2])
            hang_up(replicas, "config.refused" if bad else "config.reloaded")
            time.sleep(0.2)
    assert {p.status for p in load.history} == {200}
    lifetimes = {lifetime_of(p.token) for p in load.history if p.token}
    assert lifetimes == {300, 600}
    verdict = judge(deployment, load.history)
    require_kept(f"F17-settings-{store}", verdict, load.history)
    record("F17", verdict, store=store, what="settings", reloads=SIZES.graceful_stops * 4)


def set_settings(replica: Replica, lifetime: str) -> None:
    """Replaced at once, as an operator's tool does it."""
    file = replica.directory / "groat.toml"
    text = file.read_text().partition("[tokens]")[0]
    written = file.with_suffix(".new")
    written.write_text(f'{text}[tokens]\nlifetime = "{lifetime}"\n')
    written.rename(file)


def lifetime_of(token: str) -> int:
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return int(claims["exp"]) - int(claims["iat"])


@pytest.mark.rule("F17", "I1", "OPS-01")
def test_f17_certificates_are_renewed_under_load(postgres: Deployment, tmp_path: Path) -> None:
    """Each request gets its token, on connections from before and on new ones, by the same version of TLS."""
    trust, serial = new_certificate(tmp_path)
    (caller,) = postgres.initialise("billing")
    files = {"TLS_CERTIFICATE_FILE": tmp_path / "tls.pem", "TLS_KEY_FILE": tmp_path / "tls.key.pem"}
    postgres.env |= {f"GROAT_SERVER__{name}": str(file) for name, file in files.items()}
    replicas = [postgres.add_replica() for _ in range(2)]
    for replica in replicas:
        replica.tls = trust
        replica.start()
    serials = {serial}
    with shown_certificates(replicas[0], trust) as shown:
        with BackgroundLoad(caller.sign(3000), postgres.targets, 60, 8) as load:
            for _ in range(SIZES.graceful_stops * 2):
                serials.add(new_certificate(tmp_path)[1])
                hang_up(replicas, "config.reloaded")
                time.sleep(0.2)
    assert {p.status for p in load.history} == {200}
    assert {version for version, _ in shown} == {"TLSv1.3"}
    seen = {number for _, number in shown}
    assert len(seen) > 1
    assert seen <= serials
    verdict = judge(postgres, load.history)
    require_kept("F17-certificates", verdict, load.history)
    record("F17", verdict, what="certificates", renewed=len(serials) - 1, handshakes=len(shown))


def new_certificate(folder: Path) -> tuple[ssl.SSLContext, int]:
    """A new certificate with a new key; returns whom to trust, and its serial number."""
    now = datetime.datetime.now(datetime.UTC)
    ca, _ = LocalCa.ensure(folder / "ca.pem", folder / "ca.key.pem", [LOCAL], now)
    (folder / "tls.pem").unlink(missing_ok=True)
    ca.ensure_server(folder, [LOCAL], now)
    made = x509.load_pem_x509_certificate((folder / "tls.pem").read_bytes())
    return ssl.create_default_context(cafile=str(folder / "ca.pem")), made.serial_number


@contextmanager
def shown_certificates(replica: Replica, trust: ssl.SSLContext) -> Iterator[list[tuple[str, int]]]:
    """Handshakes all the time: which version each was of, and the serial number of what it showed."""
    shown: list[tuple[str, int]] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(0.02):
            with socket.create_connection((LOCAL, replica.port), 10) as raw:
                with trust.wrap_socket(raw, server_hostname=LOCAL) as spoken:
                    presented = spoken.getpeercert(binary_form=True) or b""
                    number = x509.load_der_x509_certificate(presented).serial_number
                    shown.append((str(spoken.version()), number))

    with ThreadPoolExecutor(1) as pool:
        looking = pool.submit(look)
        try:
            yield shown
        finally:
            done.set()
    looking.result()  # a handshake that failed fails the test


@pytest.mark.rule("F17", "I1")
@pytest.mark.timeout(300)
def test_f17_the_key_encryption_key_is_changed_under_load(postgres: Deployment, tmp_path: Path) -> None:
    """By the steps of docs/guides/custody.md, behind a load balancer: no request fails, and the old key can go."""
    (caller,) = postgres.initialise("billing")
    old, new = postgres.directory / "data" / "key-encryption.key", postgres.directory / "data" / "new.key"
    new.write_text(secrets.token_urlsafe(32))
    new.chmod(0o600)
    postgres.start(3)
    with haproxy(tmp_path, postgres.replicas) as balancer:
        with BackgroundLoad(caller.sign(5000), [balancer.target], 60, 16) as load:
            for sealing, others in [(old, [new]), (new, [old])]:
                restart_with(postgres, sealing, others)
            postgres.secrets["GROAT_KEYS__ENCRYPTION_KEY_FILE"] = str(new)
            postgres.secrets["GROAT_KEYS__OTHER_ENCRYPTION_KEY_FILES"] = str(old)
            postgres.run("key", "reseal")
            old.unlink()
            restart_with(postgres, new, [])
    failed = [p.status for p in load.history if p.status not in (200, 503)]
    refused = sum(p.status == 503 and p.retry_after for p in load.history)
    assert not failed, balancer.complaints()[-2000:]
    assert refused < len(load.history) / 100  # a machine with no time left for the database may say so
    verdict = judge(postgres, load.history)
    require_kept("F17-secret", verdict, load.history)
    record("F17", verdict, what="key-encryption key", restarts=9, refused=refused)


def restart_with(deployment: Deployment, sealing: Path, others: list[Path]) -> None:
    """One replica after the other."""
    for replica in deployment.replicas:
        file = replica.directory / "groat.toml"
        text = file.read_text().partition("[keys]")[0]
        listed = json.dumps([str(other) for other in others])
        file.write_text(f'{text}[keys]\nencryption_key_file = "{sealing}"\nother_encryption_key_files = {listed}\n')
        replica.terminate()
        replica.start()
