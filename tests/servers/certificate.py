"""What a server needs to speak TLS."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate for 127.0.0.1 and localhost that is its own authority, and its key: files."""

    chain: Path
    key: Path

    @classmethod
    def make(cls, folder: Path) -> Certificate:
        """Make one in `folder`; different from every other one."""
        made = cls(folder / "certificate.pem", folder / "key.pem")
        names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
        subprocess.run(
            [
                *["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"],
                *["-nodes", "-days", "3650", "-subj", "/CN=settled", "-addext", names],
                *["-keyout", str(made.key), "-out", str(made.chain)],
            ],
            check=True,
            capture_output=True,
        )
        return made

    def options(self, port: int) -> dict[str, str]:
        """A server's options: TLS on `port`, and no certificate asked from clients."""
        return {
            "tls-port": str(port),
            "tls-cert-file": str(self.chain),
            "tls-key-file": str(self.key),
            "tls-ca-cert-file": str(self.chain),
            "tls-auth-clients": "no",
        }
