"""Servers that one row needs for itself: on small disks, or with logins and certificates."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.faults.servers import Broker, Influx
from tests.faults.workers import free_port

BROKER_MB, INFLUX_MB = 192, 128
USER, PASSWORD = "plantwatch", "right-password-of-the-bench"


class Skipped(Exception):
    """Why a row cannot run on this machine."""


@contextmanager
def small_disks(folder: Path) -> Iterator[tuple[Broker, Influx]]:
    """A broker and an InfluxDB, each on a tmpfs of its own. Raises Skipped where nothing may be mounted."""
    with ExitStack() as stack:
        mounts = [stack.enter_context(_mounted(folder / name, size)) for name, size in _SIZES]
        broker, influx = Broker(mounts[0] / "data"), Influx(mounts[1] / "data")
        for server in (broker, influx):
            server.start()
            stack.callback(server.stop)
        yield broker, influx


_SIZES = (("small-broker", BROKER_MB), ("small-influx", INFLUX_MB))


@contextmanager
def _mounted(folder: Path, size_mb: int) -> Iterator[Path]:
    folder.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_mb}m,mode=0755", "tmpfs", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Skipped(f"no tmpfs may be mounted here ({done.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False)


# ----------------------------------------------------------------- logins, TLS


@dataclass(frozen=True, slots=True)
class Doors:
    """Ways into a secured broker: where, and which certificates to trust."""

    sasl: str
    tls: str
    ca: Path
    wrong_ca: Path


@contextmanager
def secured(folder: Path) -> Iterator[tuple[Broker, Doors]]:
    """A broker that listens in plain, with logins, and with TLS, each on a port of its own. Raises Skipped."""
    folder.mkdir(parents=True)
    ca, wrong_ca, keystore = _certificates(folder)
    plain, sasl, tls, controller = (free_port() for _ in range(4))
    listeners = f"PLAINTEXT://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls}"
    settings = (
        f"listeners={listeners},CONTROLLER://127.0.0.1:{controller}",
        f"advertised.listeners={listeners}",
        "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL",
        "ssl.keystore.type=PEM",
        f"ssl.keystore.location={keystore}",
    )
    ports = ("--port", str(plain), "--port-controller", str(controller), "--sasl-port", str(sasl))
    broker = Broker(folder / "data", settings, ("--sasl", "--sasl-user", f"{USER}:{PASSWORD}", *ports))
    broker.start()
    try:
        yield broker, Doors(f"127.0.0.1:{sasl}", f"127.0.0.1:{tls}", ca, wrong_ca)
    finally:
        broker.stop()


def _certificates(folder: Path) -> tuple[Path, Path, Path]:
    """A certificate authority, another one, and the broker's key and certificate signed by the first."""
    try:
        for name in ("ca", "wrong-ca"):
            _openssl(
                folder,
                *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", f"/CN={name}"),
                *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
            )
        (folder / "san").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n", encoding="ascii")
        request = ("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-keyout", "key.pem")
        _openssl(folder, *request, "-out", "request.pem")
        sign = ("x509", "-req", "-in", "request.pem", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
        _openssl(folder, *sign, "-days", "30", "-extfile", "san", "-out", "certificate.pem")
    except (OSError, subprocess.CalledProcessError) as error:
        raise Skipped(f"openssl cannot make certificates here: {error}") from error
    keystore = folder / "keystore.pem"
    keystore.write_bytes((folder / "key.pem").read_bytes() + (folder / "certificate.pem").read_bytes())
    return folder / "ca.pem", folder / "wrong-ca.pem", keystore


def _openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
