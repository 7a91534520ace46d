"""TLS contexts from PEM files: mutual everywhere, TLS 1.2 or later, the park's CA and no other."""

from __future__ import annotations

import ssl

import grpc

from cluster.config import TlsFiles


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """gRPC server credentials that require a client certificate of the park's CA."""
    pair = (files.key.read_bytes(), files.certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], root_certificates=files.ca.read_bytes(), require_client_auth=True)


def client_context(files: TlsFiles) -> ssl.SSLContext:
    """For links to owners on other nodes. The name is not checked: owners move, and only services have such keys."""
    context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=str(files.ca))
    context.load_cert_chain(files.certificate, files.key)
    context.check_hostname = False
    return context


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For owners that other nodes reach."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(files.ca))
    context.load_cert_chain(files.certificate, files.key)
    context.verify_mode = ssl.CERT_REQUIRED
    return context
