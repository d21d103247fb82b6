"""Secrets of the stack, as files: made where they are missing, refused where they are weak.

The folder is its owner's alone (0700). The files in it may be read (0444): containers run as other users than the
folder's owner, compose mounts single files into them, and 0600 would shut out just those who need them. What protects
the files on this machine is the folder; each container sees only those that it is given.
"""

from __future__ import annotations

import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from problem import Problem

LEAST = 16
"""A secret has at least so many characters."""
WEAK = frozenset({"admin", "password", "my-token", "my-super-secret-auth-token", "changeme", "secret", "plantwatch"})
ROLES = ("score", "record", "alert", "train", "dashboard", "operator", "ingest")
"""Users of Kafka, as in `pipelines/access.py`."""
RANDOM = (*(f"kafka_{role}_password" for role in ROLES), "influx_password", "influx_operator_token", "webhook_secret")
MAY_BE_EMPTY = ("plantwatch_notify_urls",)
CA_DAYS, SERVER_DAYS = 3650, 825
_RENEW_S = 30 * 24 * 3600


def make(folder: Path, names: Sequence[str], more: Sequence[str] = ()) -> list[str]:
    """Make what is missing; says what was made. `names`: host names that Kafka's certificate must be good for.

    `more`: further random secrets (of profiles). Raises Problem for a weak one, or if the folder cannot be written.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise Problem(f"the folder of secrets {folder} cannot be made or kept to oneself: {error.strerror}") from error
    made = [name for name in (*RANDOM, *more) if _random(folder / name)]
    made += [name for name in MAY_BE_EMPTY if _empty(folder / name)]
    if not (folder / "ca.crt").exists() or not (folder / "ca.key").exists():
        _authority(folder)
        made.append("ca.crt")
    if not _good_for(folder / "kafka.pem", folder / "ca.crt", names):
        _server(folder, "kafka", names)
        made.append("kafka.pem")
    for name in (*RANDOM, *more):
        check(folder / name)
    _check_apart(folder, (*RANDOM, *more))
    return made


def make_page(folder: Path, host: str) -> list[str]:
    """A key and a certificate for the dashboard's page behind TLS, unless there are some; says what was made."""
    key, certificate = folder / "dashboard.key", folder / "dashboard.crt"
    if key.exists() and certificate.exists():
        return []
    _server(folder, "dashboard", [host])
    pem = folder / "dashboard.pem"
    private, begin, public = pem.read_text(encoding="utf-8").partition("-----BEGIN CERTIFICATE-----")
    _write(key, private)
    _write(certificate, begin + public)
    pem.unlink()
    return [key.name, certificate.name]


def check(path: Path) -> None:
    """Raises Problem if the secret in that file is empty, short, a known default or hardly random."""
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(
            f"{path} cannot be read ({error}); mend its rights, or remove it and a new one is made"
        ) from error
    why = (
        f"has {len(text)} characters"
        if len(text) < LEAST
        else "is a well-known default"
        if text.lower() in WEAK
        else "could be guessed"
        if len(set(text)) < 8
        else ""
    )
    if why:
        raise Problem(
            f"{path} {why}; expected {LEAST} random characters or more. Remove the file and a good one is made "
            "(docs/deployment.md, “Change a secret”)"
        )


def _check_apart(folder: Path, names: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for name in names:
        text = (folder / name).read_text(encoding="utf-8").strip()
        if text in seen:
            raise Problem(f"{folder}: {name} is the same as {seen[text]}; expected one of its own. Remove one of them")
        seen[text] = name


def _random(path: Path) -> bool:
    if path.exists():
        return False
    _write(path, secrets.token_urlsafe(32))
    return True


def _empty(path: Path) -> bool:
    if path.exists():
        return False
    _write(path, "")
    return True


def _write(path: Path, text: str, mode: int = 0o444) -> None:
    part = path.with_name(path.name + ".new")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(text, encoding="utf-8")
    part.chmod(mode)
    part.replace(path)


# ---------------------------------------------------------------------------------------------------- certificates


def openssl(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run openssl. Raises Problem if it is not there or fails."""
    if not shutil.which("openssl"):
        raise Problem("openssl is not installed; it makes the certificates between the services: install openssl")
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    if check and done.returncode:
        raise Problem(f"openssl {arguments[0]} failed: {done.stderr.strip()}")
    return done


def _key(path: Path) -> None:
    openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", str(path))


def _authority(folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as work:
        key, certificate = Path(work) / "ca.key", Path(work) / "ca.crt"
        _key(key)
        subject = ("-subj", "/O=plantwatch/CN=plantwatch internal authority")
        uses = ("-addext", "basicConstraints=critical,CA:true,pathlen:0", "-addext", "keyUsage=critical,keyCertSign")
        openssl(
            "req", "-x509", "-new", "-key", str(key), *subject, *uses, "-days", str(CA_DAYS), "-out", str(certificate)
        )
        _write(folder / "ca.key", key.read_text(), 0o400)
        _write(folder / "ca.crt", certificate.read_text())


def _server(folder: Path, name: str, hosts: Sequence[str]) -> None:
    """A key and a certificate for `hosts`, in one PEM file as Kafka wants it."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        key, request, certificate, extra = (Path(work) / part for part in ("key", "csr", "crt", "ext"))
        _key(key)
        openssl("req", "-new", "-key", str(key), "-subj", f"/O=plantwatch/CN={name}", "-out", str(request))
        extra.write_text(
            f"subjectAltName={','.join(map(_alternative, hosts))}\nbasicConstraints=CA:false\n"
            "keyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n"
        )
        signer = ("-CA", str(folder / "ca.crt"), "-CAkey", str(folder / "ca.key"), "-CAcreateserial")
        serial = ("-CAserial", str(Path(work) / "serial"))
        made = ("-days", str(SERVER_DAYS), "-extfile", str(extra), "-out", str(certificate))
        openssl("x509", "-req", "-in", str(request), *signer, *serial, *made)
        _write(folder / f"{name}.pem", key.read_text() + certificate.read_text() + (folder / "ca.crt").read_text())


def _alternative(host: str) -> str:
    """Host names and addresses as certificates tell them apart.

    >>> _alternative("kafka"), _alternative("192.0.2.7")
    ('DNS:kafka', 'IP:192.0.2.7')
    """
    numeric = host.replace(".", "").isdigit() or ":" in host
    return f"{'IP' if numeric else 'DNS'}:{host}"


def _good_for(pem: Path, ca: Path, hosts: Sequence[str]) -> bool:
    """Whether the certificate is of this authority, for these hosts, and good for a month or more."""
    if not pem.exists():
        return False
    if openssl("x509", "-in", str(pem), "-noout", "-checkend", str(_RENEW_S), check=False).returncode:
        return False
    if openssl("verify", "-CAfile", str(ca), str(pem), check=False).returncode:
        return False
    ways = [("-checkip" if _alternative(host).startswith("IP") else "-checkhost", host) for host in hosts]
    answers = [openssl("x509", "-in", str(pem), "-noout", *way, check=False).stdout for way in ways]
    return all("does match" in answer for answer in answers)
