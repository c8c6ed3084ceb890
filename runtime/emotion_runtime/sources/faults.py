"""Why a connection failed, in words: neither the address nor a password is in a message."""

import errno
import os
import socket
import ssl
from http.client import HTTPException

import av

from emotion_runtime.errors import Cause, ConnectionLost
from emotion_runtime.sources.network_address import NetworkAddress

_REFUSED = "the connection was refused; check that the server runs, and the port"
_PASSWORD = "the server refused the user name or password; correct them in the address"  # noqa: S105
_UNREACHABLE = {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.EADDRNOTAVAIL}
_BROKEN = {errno.ECONNRESET, errno.EPIPE, errno.ECONNABORTED, errno.ENOTCONN}
_ALMOST = 0.9  # of a time limit


def explained(error: Exception, waited: float, limit: float) -> ConnectionLost | None:
    """Turn an error of a library into one that a person understands; None if the error does not say.

    Args:
        error: What PyAV, `socket`, `ssl` or `http.client` raised.
        waited: Seconds that the call took.
        limit: Seconds that it was allowed to take. FFmpeg calls a silent server "Invalid data".
    """
    if isinstance(error, ConnectionLost):
        return error
    for test in (_of_http, _of_tls, _of_network):
        found = test(error)
        if found is not None:
            return ConnectionLost(*found)
    silent = isinstance(error, TimeoutError | av.error.ExitError)
    if silent or (waited >= _ALMOST * limit and isinstance(error, av.error.FFmpegError)):
        return ConnectionLost(
            f"the server did not answer or sent nothing for {limit:g} s; check it and the network", "time-out"
        )
    if isinstance(error, av.error.EOFError):
        return ended()
    return None


def ended() -> ConnectionLost:
    """Return what is raised when the server ends a connection in good order."""
    return ConnectionLost("the server ended the connection; check that it runs", "ended")


def not_a_stream(protocol: str) -> ConnectionLost:
    """Return what is raised if a server sends something else than its protocol."""
    return ConnectionLost(
        f"the server does not speak {protocol}, or its video cannot be read; check the address and the codec",
        "format",
    )


def of_status(code: int) -> ConnectionLost:
    """Return what is raised after a status code of HTTP or RTSP that is not a success."""
    message, cause = _status(code)
    return ConnectionLost(message, cause)


def probed(address: NetworkAddress, limit: float) -> ConnectionLost | None:
    """Connect once more, without sending anything, to find out why a connection failed.

    FFmpeg reports an unknown name, a certificate and much else by the same error. Returns None if a
    connection can be established.

    Args:
        address: The server.
        limit: Seconds to wait.
    """
    try:
        with socket.create_connection((address.host, address.port), limit) as plain:
            if address.scheme in ("rtsps", "https"):
                with tls_context().wrap_socket(plain, server_hostname=address.host):
                    pass
    except (OSError, ValueError) as error:
        return explained(error, 0.0, limit)
    return None


def tls_context() -> ssl.SSLContext:
    """Return what checks certificates: against those of the system, or of the file SSL_CERT_FILE."""
    context = ssl.create_default_context()
    # Certificates that cameras make for themselves lack extensions that Python demands since 3.13.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def certificates() -> str | None:
    """Return the file of certificates that are trusted, for FFmpeg; None: none was found."""
    files = [
        ssl.get_default_verify_paths().cafile,
        "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine
        "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    ]
    return next((file for file in files if file and os.path.isfile(file)), None)  # noqa: PTH113


def _of_http(error: Exception) -> tuple[str, Cause] | None:
    code = getattr(error, "code", None)  # of urllib
    if isinstance(code, int) and hasattr(error, "headers"):
        return _status(code)
    for kind, status in (
        (av.error.HTTPUnauthorizedError, 401),
        (av.error.HTTPForbiddenError, 403),
        (av.error.HTTPNotFoundError, 404),
        (av.error.HTTPClientError, 400),
        (av.error.HTTPServerError, 500),
    ):
        if isinstance(error, kind):
            return _status(status)
    if isinstance(error, HTTPException) and not isinstance(error, OSError):
        return "the server's answer is not HTTP; check the address and the port", "format"
    return None


def _status(code: int) -> tuple[str, Cause]:
    if code == 401:
        return _PASSWORD, "authentication"
    if code == 403:
        return "the server does not allow this user to see the stream (403); check the user's rights", (
            "authentication"
        )
    if code in (404, 410):
        return "the server has no such stream (404); check the path in the address", "not found"
    if 300 <= code < 400:
        return "the server redirects without end or to somewhere else; give the final address", "not found"
    if code >= 500:
        return "the server reports a failure of its own (5xx); check the server", "connection"
    return "the server refuses the request (4xx); check the address", "not found"


def _of_tls(error: Exception) -> tuple[str, Cause] | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            "the server's certificate is not trusted; set SSL_CERT_FILE to a file with its certificate, and "
            "use the host name that is in it"
        ), "encryption"
    if isinstance(error, ssl.SSLError) and not isinstance(error, TimeoutError):
        return "the server does not speak TLS on this port; check the port, or use the scheme without s", (
            "encryption"
        )
    return None


def _of_network(error: Exception) -> tuple[str, Cause] | None:
    if isinstance(error, socket.gaierror | UnicodeError):
        return "the name of the server cannot be resolved; check the address and DNS", "connection"
    if isinstance(error, ConnectionRefusedError):
        return _REFUSED, "connection"
    number = getattr(error, "errno", None)
    if number in _UNREACHABLE:
        return "the server cannot be reached; check its network and the cable", "connection"
    if number in _BROKEN:
        return "the server broke off the connection; check that it runs", "connection"
    return None
