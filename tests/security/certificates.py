"""Certificates made on the spot: an authority, and whom it vouches for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Authority", "Pair"]

_LONG = timedelta(days=365)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


class Pair:
    """A certificate and its key, as PEM files."""

    def __init__(self, folder: Path, name: str, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self.private_key = key
        self.cert = folder / f"{name}.crt"
        self.key = folder / f"{name}.key"
        self.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )


class Authority:
    """Vouches for others, and for itself."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = (
            self._builder(name, name, key, -_LONG, _LONG)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self._name = name
        self.pair = Pair(folder, name, certificate, key)

    def vouch(self, name: str, *hosts: str, begin: timedelta = -_LONG, end: timedelta = _LONG) -> Pair:
        """Return a certificate for these hosts, valid from ``begin`` to ``end`` from now."""
        key = ec.generate_private_key(ec.SECP256R1())
        builder = self._builder(name, self._name, key, begin, end)
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(map(_alternative, hosts)), critical=False)
        return Pair(self._folder, name, builder.sign(self.pair.private_key, hashes.SHA256()), key)

    @staticmethod
    def _builder(
        name: str, issuer: str, key: ec.EllipticCurvePrivateKey, begin: timedelta, end: timedelta
    ) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(_name(name))
            .issuer_name(_name(issuer))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begin)
            .not_valid_after(now + end)
        )
