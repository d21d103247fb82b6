"""The client's side of SCRAM (RFC 5802): proves a password without sending it, and checks the server's proof."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from typing import Final

from anomaly.errors import ConfigurationError

_HASHES: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
_MOST_ROUNDS: Final = 1_000_000


class ScramClient:
    """One login. `nonce` is chance, passed in by tests.

    >>> client = ScramClient("SCRAM-SHA-256", "user", "pencil", nonce="rOprNGfwEbeRWgbNEkqO")  # RFC 7677 §3
    >>> client.first()
    b'n,,n=user,r=rOprNGfwEbeRWgbNEkqO'
    >>> answer = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
    >>> client.final(answer)[-47:]
    b',p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ='
    >>> client.proves(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")
    True
    """

    def __init__(self, mechanism: str, user: str, password: str, nonce: str | None = None) -> None:
        self._hash = _HASHES[mechanism]
        self._password = password.encode()
        self._nonce = nonce or secrets.token_urlsafe(24)
        self._bare = f"n={user.replace('=', '=3D').replace(',', '=2C')},r={self._nonce}"
        self._proof = b""

    def first(self) -> bytes:
        """What to say first."""
        return f"n,,{self._bare}".encode()

    def final(self, said: bytes) -> bytes:
        """What to answer to the server's salt. Raises ConfigurationError if the server does not play by the rules."""
        parts = dict(piece.split("=", 1) for piece in said.decode("utf-8", "replace").split(",") if "=" in piece)
        try:
            nonce, salt, rounds = parts["r"], base64.b64decode(parts["s"]), int(parts["i"])
        except (KeyError, ValueError) as error:
            raise ConfigurationError("the broker does not speak SCRAM; correct kafka_mechanism") from error
        if not nonce.startswith(self._nonce) or not 0 < rounds <= _MOST_ROUNDS:
            raise ConfigurationError("the broker answers another login than ours; correct kafka_servers")
        salted = hashlib.pbkdf2_hmac(self._hash, self._password, salt, rounds)
        closing = f"c=biws,r={nonce}"
        message = ",".join((self._bare, said.decode(), closing)).encode()
        client_key = self._mac(salted, b"Client Key")
        signature = self._mac(hashlib.new(self._hash, client_key).digest(), message)
        self._proof = self._mac(self._mac(salted, b"Server Key"), message)
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        return f"{closing},p={base64.b64encode(proof).decode()}".encode()

    def proves(self, said: bytes) -> bool:
        """Whether the server knows the password too."""
        return hmac.compare_digest(said, b"v=" + base64.b64encode(self._proof))

    def _mac(self, key: bytes, message: bytes) -> bytes:
        return hmac.new(key, message, self._hash).digest()
