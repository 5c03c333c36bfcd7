"""HTTP to the web: downloads photos and sends webhooks, within limits and never to internal
addresses.

It resolves the host itself, requires that every address of it is public, and connects to exactly
that address, so a name that resolves differently later gains nothing. Each redirect is checked
again.
"""

import io
import ipaddress
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import IO, Any
from urllib.parse import urljoin

import httpx

from shared.errors import (
    ClipTooLargeError,
    EncodedSourceError,
    FileTooLargeError,
    ForbiddenUrlError,
    SourceDeniedError,
    SourceNotFoundError,
    UrlNotFetchedError,
)
from shared.settings import Settings

UNUSABLE = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, UnicodeError)
"""What httpx raises for a peer's answer. UnicodeError: it reads the Location of a redirect, even if
it does not follow it, and fails on malformed Punycode.
"""

REDIRECTS = frozenset({301, 302, 303, 307, 308})
AGENT = "matting/1 (+image fetch)"

MAX_PORT = 65_535

MAX_HEAD_BYTES, HEAD_READ_BYTES = 32 * 1024, 8 * 1024
"""Bytes of a server before its headers are complete, and how many of them are read at a time.
httpx would read interim responses (100 Continue) without end, at the cost of one core.
"""

FREE_PIECES, MIN_PIECE_BYTES = 1_000, 64
"""A body that comes in more pieces has at least so many bytes a piece: each costs as much time as a
large one.
"""

CHECKS_AT_ONCE = 8
"""Hosts that are looked up at a time before anything is sent there. A name server that does not
answer, which may be a caller's own, holds such a thread for ten seconds.
"""

NAT64 = ipaddress.ip_network("64:ff9b::/96")
"""IPv6 addresses that stand for IPv4 ones (RFC 6052)."""

SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        (
            "fec0::/10",
            "192.0.0.0/24",
            "192.88.99.0/24",
            "2001::/23",
            "3fff::/20",
            "5f00::/16",
            "64:ff9b:1::/48",
            "168.63.129.16/32",
        ),
    )
)
"""Not public, although Python 3.11 treats them as global: site-local addresses (RFC 3879; some
networks still use them), IANA's special-purpose registries (one cloud has its metadata service in
192.0.0.0/24), and an address that in another cloud is each machine's own host.
"""


@dataclass(frozen=True, slots=True)
class PostResponse:
    """The receiver's answer to a POST."""

    status: int
    retry_after: str
    """The header as received; empty if missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebLimits:
    """Limits of a download."""

    timeout_s: float
    """For the whole download, redirects included; of a clip, for what is not its file."""
    max_redirects: int
    allow_private: bool
    min_clip_bytes_per_s: int
    """Least rate of a clip since its begin."""

    @classmethod
    def of(cls, settings: Settings) -> "WebLimits":
        """The limits of the settings."""
        return cls(
            timeout_s=settings.url_timeout_s,
            max_redirects=settings.max_url_redirects,
            allow_private=settings.allow_private_addresses,
            min_clip_bytes_per_s=settings.min_clip_bytes_per_s,
        )


def is_public(address: str) -> bool:
    """Whether an IP address is on the public internet, in whatever notation."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        # 6to4, Teredo and NAT64 addresses contain an IPv4 address that a gateway would extract.
        if ip.sixtofour is not None or ip.teredo is not None or ip in NAT64:
            return False
    special = any(ip in network for network in SPECIAL)
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or special)


def resolve(host: str, port: int, *, allow_private: bool, flags: int = 0) -> str:
    """An address of the host; `flags` as of `getaddrinfo`. Raises ForbiddenUrlError if any of its
    addresses is not public, UrlNotFetchedError if it has none.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except (OSError, UnicodeError) as error:
        raise UrlNotFetchedError(f"The host {host!r} was not found: {error}") from error
    addresses = [str(entry[4][0]) for entry in found]
    if not allow_private and not all(is_public(address) for address in addresses):
        raise ForbiddenUrlError(f"The host {host!r} has an address that is not public")
    return addresses[0]


_checks = threading.BoundedSemaphore(CHECKS_AT_ONCE)


def refuse_private(url: str, *, allow_private: bool) -> None:
    """Raise ForbiddenUrlError if `Web` would refuse the URL, as its host resolves now. A host that
    does not resolve is allowed, because it may resolve later; so is a name that comes while
    CHECKS_AT_ONCE others are looked up. `Web` looks again before it connects.
    """
    target, port = _parsed(url)
    with suppress(UrlNotFetchedError):  # it is a name
        numeric = socket.AI_NUMERICHOST  # asks no name server, in whatever notation it is
        resolve(target.host, port, allow_private=allow_private, flags=numeric)
        return
    if not _checks.acquire(blocking=False):
        return
    try:
        with suppress(UrlNotFetchedError):
            resolve(target.host, port, allow_private=allow_private)
    finally:
        _checks.release()


def _target(url: str, *, allow_private: bool) -> tuple[httpx.URL, str]:
    """A URL and the address to connect to. Raises ForbiddenUrlError, UrlNotFetchedError."""
    target, port = _parsed(url)
    return target, resolve(target.host, port, allow_private=allow_private)


def _parsed(url: str) -> tuple[httpx.URL, int]:
    """A URL and its port. Raises ForbiddenUrlError."""
    try:
        target = httpx.URL(url)
        host = target.host  # it decodes Punycode, which may be malformed
    except (httpx.InvalidURL, ValueError) as error:
        raise ForbiddenUrlError("The URL is not a valid http:// or https:// address") from error
    port = target.port or (443 if target.scheme == "https" else 80)
    plain = target.scheme in ("http", "https") and host and not target.userinfo
    if not plain or port > MAX_PORT:
        raise ForbiddenUrlError(f"{_shown(url)} is not a valid http:// or https:// address")
    return target, port


class _DeadlineCutter:
    """Closes a request's connection at its deadline. A timeout for single reads would never end a
    peer that sends a byte now and then. It also ends a peer that sends no end of headers.
    """

    def __init__(self, after_s: float) -> None:
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(max(0.0, after_s), self._cut)
        self._timer.daemon = True
        self._late = False
        self._head_bytes: int | None = 0
        """None: the headers are complete."""

    def __enter__(self) -> "_DeadlineCutter":
        self._timer.start()
        return self

    def extend(self, after_s: float) -> None:
        """Set a later deadline. A connection that is cut already stays so."""
        self._timer.cancel()
        self._timer = threading.Timer(max(0.0, after_s), self._cut)
        self._timer.daemon = True
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        if self._socket is not None:
            self._socket.close()

    def trace(self, event: str, info: Mapping[str, Any]) -> None:
        """A trace callback of httpcore. It keeps a handle of its own on the connection, which stays
        valid while TLS wraps the other one.
        """
        if event == "connection.connect_tcp.complete":
            self._socket = info["return_value"].get_extra_info("socket").dup()
            if self._late:
                self._cut()
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            stream = info["return_value"]
            stream.read = partial(self._read, stream.read)
        elif event == "http11.receive_response_headers.complete":
            self._head_bytes = None

    def _read(
        self, read: Callable[..., bytes], max_bytes: int, timeout: float | None = None
    ) -> bytes:
        """Read from the connection. Raises httpx.ReadError."""
        if self._head_bytes is None:
            return read(max_bytes, timeout)
        if self._head_bytes > MAX_HEAD_BYTES:
            raise httpx.ReadError("The headers do not end")
        data = read(min(max_bytes, HEAD_READ_BYTES), timeout)
        self._head_bytes += len(data)
        return data

    def _cut(self) -> None:
        self._late = True
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


class Web:
    """Downloads and sends over HTTP(S). Thread-safe. Close it at the end."""

    def __init__(self, limits: WebLimits) -> None:
        """Does not connect yet."""
        self._limits = limits
        # No proxies and no netrc from the environment: they would bypass the address check.
        self._client = httpx.Client(
            trust_env=False,
            follow_redirects=False,
            timeout=httpx.Timeout(min(10.0, limits.timeout_s)),
            headers={
                "User-Agent": AGENT,
                "Accept": "image/*,*/*;q=0.5",
                "Accept-Encoding": "identity",
            },
            limits=httpx.Limits(max_keepalive_connections=0),
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def get(self, url: str, max_bytes: int) -> bytes:
        """The file at the URL. Raises as `fetch`."""
        file = io.BytesIO()
        self.fetch(url, max_bytes, file)
        return file.getvalue()

    def fetch(self, url: str, max_bytes: int, into: IO[bytes]) -> None:
        """Write the photo at the URL.

        Raises ForbiddenUrlError, SourceNotFoundError, SourceDeniedError, FileTooLargeError,
        EncodedSourceError, or the retryable UrlNotFetchedError.
        """
        self._fetch(url, into, _Pace(max_bytes, time.monotonic() + self._limits.timeout_s))

    def fetch_clip(self, url: str, max_bytes: int, into: IO[bytes]) -> None:
        """Write the clip at the URL. It has more time than a photo, as long as it comes at the
        least rate. Raises as `fetch`, but ClipTooLargeError.
        """
        due = time.monotonic() + self._limits.timeout_s
        pace = _Pace(max_bytes, due, self._limits.min_clip_bytes_per_s, ClipTooLargeError)
        self._fetch(url, into, pace)

    def _fetch(self, url: str, into: IO[bytes], pace: "_Pace") -> None:
        try:
            for _ in range(self._limits.max_redirects + 1):
                with self._open("GET", url, pace.due, body_due=pace.last_due) as response:
                    if response.status_code in REDIRECTS:
                        url = _redirected(url, response.headers.get("location", ""))
                        continue
                    _check_status(url, response.status_code)
                    _refuse_encoded(url, response)
                    _read(response, pace, into)
                    return
        except UNUSABLE as error:
            raise UrlNotFetchedError(
                f"{_shown(url)} could not be fetched: {type(error).__name__}"
            ) from error
        raise ForbiddenUrlError(
            f"{_shown(url)} redirects more than {self._limits.max_redirects} times"
        )

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> PostResponse:
        """Send a body; returns the receiver's answer. Redirects are not followed.

        Raises ForbiddenUrlError or UrlNotFetchedError.
        """
        deadline = time.monotonic() + self._limits.timeout_s
        try:
            with self._open("POST", url, deadline, body, headers) as response:
                return PostResponse(response.status_code, response.headers.get("retry-after", ""))
        except UNUSABLE as error:
            raise UrlNotFetchedError(
                f"{_shown(url)} could not be reached: {type(error).__name__}"
            ) from error

    @contextmanager
    def _open(
        self,
        method: str,
        url: str,
        deadline: float,
        body: bytes | None = None,
        headers: Mapping[str, str] = {},
        body_due: float | None = None,
    ) -> Iterator[httpx.Response]:
        """Send one request to a checked address; close it at the deadline (monotonic seconds).
        `body_due`: a later deadline, once the answer's headers are there.
        """
        target, address = _target(url, allow_private=self._limits.allow_private)
        with (
            _DeadlineCutter(deadline - time.monotonic()) as cutter,
            self._client.stream(
                method,
                target.copy_with(host=address),
                content=body,
                headers={**headers, "Host": target.netloc.decode("ascii")},
                extensions={
                    "sni_hostname": target.raw_host.decode("ascii"),
                    "trace": cutter.trace,
                },
            ) as response,
        ):
            if body_due is not None:
                cutter.extend(body_due - time.monotonic())
            yield response


def _redirected(url: str, location: str) -> str:
    """The address that a redirect leads to. Raises ForbiddenUrlError."""
    try:
        return urljoin(url, location)
    except ValueError as error:
        raise ForbiddenUrlError(f"{_shown(url)} redirects to an invalid address") from error


def _check_status(url: str, status: int) -> None:
    if status in (404, 410):
        raise SourceNotFoundError(f"There is nothing at {_shown(url)} ({status})")
    if status in (401, 403, 451):
        raise SourceDeniedError(f"{_shown(url)} can't be read without a login ({status})")
    if status in (408, 425, 429) or status >= 500:
        raise UrlNotFetchedError(f"{_shown(url)} answered {status}")
    if status != 200:
        raise SourceNotFoundError(f"{_shown(url)} answered {status}, not a file")


def _refuse_encoded(url: str, response: httpx.Response) -> None:
    """Refuse a Content-Encoding: a compressed photo may be a bomb, and httpx would decode all
    layers at once.
    """
    encodings = response.headers.get("content-encoding", "").lower().split(",")
    layers = [layer for one in encodings if (layer := one.strip()) not in ("", "identity")]
    if layers:
        raise EncodedSourceError(
            f"{_shown(url)} came compressed ({', '.join(layers)[:100]}), against the request"
        )


@dataclass(frozen=True, slots=True)
class _Pace:
    """How large a file may be, and how fast it must come."""

    max_bytes: int
    due: float
    """When a file must be there, or a clip must begin to come [monotonic seconds]."""
    bytes_per_s: int | None = None
    """A file may come later by the time that it takes at this rate; None: it may not."""
    too_large: type[FileTooLargeError | ClipTooLargeError] = FileTooLargeError

    @property
    def last_due(self) -> float:
        """When the largest file must be there."""
        return self.due_of(self.max_bytes)

    def due_of(self, size: int) -> float:
        """When so many bytes must be there."""
        return self.due + (size / self.bytes_per_s if self.bytes_per_s else 0.0)


def _read(response: httpx.Response, pace: _Pace, into: IO[bytes]) -> None:
    max_bytes = pace.max_bytes
    length = response.headers.get("content-length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise pace.too_large(f"The file has {int(length):,} bytes; the limit is {max_bytes:,}")
    size = 0
    for pieces, chunk in enumerate(response.iter_raw()):
        size += len(chunk)
        if pieces > FREE_PIECES + size // MIN_PIECE_BYTES:
            raise UrlNotFetchedError("The file comes in very many tiny pieces")
        if size > max_bytes:
            raise pace.too_large(f"The file has more than the limit of {max_bytes:,} bytes")
        into.write(chunk)
        if time.monotonic() > pace.due_of(size):
            break
    # also if closing at the deadline looks like the end of the file
    if time.monotonic() > pace.due_of(size):
        raise UrlNotFetchedError("The file did not arrive within the time limit")


def _shown(url: str) -> str:
    """The URL without parts that may be secret: user, query and fragment."""
    try:
        found = httpx.URL(url)
        return str(found.copy_with(query=None, fragment=None, userinfo=b""))
    except (httpx.InvalidURL, ValueError):
        return "The URL"
