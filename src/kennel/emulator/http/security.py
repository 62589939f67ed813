"""Who may use the emulator. It runs programs for whoever can talk to it, so docs/security.md states each rule.

Source of the signature: AWS, "Signature Version 4 signing process"; botocore computes it for both sides.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.credentials
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.compat import HTTPHeaders
from starlette.datastructures import Headers

from kennel.contract.presence import CHALLENGE_HEADER, introduction
from kennel.emulator.errors import AwsError
from kennel.emulator.http.credentials import Credentials

CLOCK_SKEW_S = 300
API_BODY_LIMIT_BYTES = 1024 * 1024
_ALGORITHM = "AWS4-HMAC-SHA256"
_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<key>[^/,\s]+)/(?P<day>\d{8})/(?P<region>[a-z0-9-]+)/(?P<service>[a-z0-9-]+)/"
    r"aws4_request,\s*SignedHeaders=(?P<headers>[a-z0-9;._-]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)
_ANY_REGION = ("sts",)  # clients of its global endpoint sign for us-east-1, wherever they are


@dataclass(frozen=True)
class Claim:
    """What an Authorization header says, not yet proven."""

    access_key_id: str
    time: str  # as X-Amz-Date has it, 20261122T155700Z
    region: str
    service: str
    signed_headers: tuple[str, ...]
    signature: str


@dataclass(frozen=True)
class Head:
    """A request without its body."""

    method: str
    path: str  # as it came, still percent-encoded
    query: str
    headers: Headers


class _Recomputed(SigV4Auth):  # type: ignore[misc]  # botocore has no types
    """botocore's signature over exactly the headers that the client signed."""

    def headers_to_sign(self, request: AWSRequest) -> HTTPHeaders:
        """All that the request was built with; the signer's own list leaves some out."""
        return request.headers

    def payload(self, request: AWSRequest) -> str:
        """The body's digest, which the caller has already."""
        return str(request.context["digest"])


class Gate:
    """Lets in who is on this machine, is no web page, and has the key."""

    def __init__(self, credentials: Credentials, region: str, port: int) -> None:
        """Make one.

        Args:
            credentials: the only key.
            region: for which requests must be signed.
            port: the one on which the emulator listens.
        """
        self._credentials = credentials
        self._region = region
        self._port = port
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}

    def check_source(self, headers: Headers) -> None:
        """Refuse web pages: those that a browser sends here by a name of their own, and those that ask across sites.

        Raises:
            AwsError: AccessDeniedException, HTTP 403.
        """
        host = headers.get("host", "")
        if host.lower() not in self._hosts:
            raise _denied(f"Host is '{host[:200]}'; the emulator answers to {', '.join(sorted(self._hosts))} only.")
        if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
            raise _denied("The emulator answers no web pages. Use an AWS SDK, the aws CLI or the kennel command.")

    def introduce(self, headers: Headers, home: Path) -> dict[str, Any]:
        """What `GET /` tells whoever asks which home is served here; nothing to others."""
        return introduction(headers.get(CHALLENGE_HEADER, ""), self._credentials.secret_access_key, home, self._port)

    def check_claim(self, headers: Headers, now_s: float | None = None) -> Claim:
        """Everything about a signature that needs no body, so that a stranger's body is not even read.

        Raises:
            AwsError: no signature or a broken one, an unknown key, another region, a clock that is off by 5 minutes.
        """
        claim = _read_claim(headers)
        if not hmac.compare_digest(claim.access_key_id.encode(), self._credentials.access_key_id.encode()):
            code = "InvalidClientTokenId" if claim.service == "sts" else "UnrecognizedClientException"
            raise AwsError(
                code,
                f"The security token included in the request is invalid: '{claim.access_key_id[:100]}' is not the "
                'emulator\'s key. Take the one in credentials.json of its home, or run: eval "$(kennel env)".',
                403,
            )
        if claim.region != self._region and claim.service not in _ANY_REGION:
            raise _mismatch(
                f"Credential should be scoped to a valid region: '{claim.region}' was signed for, the emulator is in "
                f"'{self._region}'. Set AWS_REGION={self._region}."
            )
        _check_clock(claim.time, time.time() if now_s is None else now_s)
        return claim

    def check_signature(self, claim: Claim, head: Head, body: bytes) -> None:
        """Compute the signature anew and compare.

        Raises:
            AwsError: SignatureDoesNotMatch, HTTP 403.
        """
        digest = hashlib.sha256(body).hexdigest()
        if head.headers.get("x-amz-content-sha256", digest) != digest:
            raise _mismatch("The x-amz-content-sha256 header is not the SHA-256 of the body.")
        keys = botocore.credentials.Credentials(self._credentials.access_key_id, self._credentials.secret_access_key)
        signer = _Recomputed(keys, claim.service, claim.region)
        request = _signed_part(claim, head)
        request.context["digest"] = digest
        computed = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
        if not hmac.compare_digest(computed, claim.signature):
            raise _mismatch(
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key: it is in credentials.json of the emulator's home."
            )


def _signed_part(claim: Claim, head: Head) -> AWSRequest:
    query = f"?{head.query}" if head.query else ""
    headers = HTTPHeaders()
    for name, value in head.headers.items():
        if name in claim.signed_headers:
            headers[name] = value  # adds: a header that came twice is signed as two
    url = f"http://{head.headers['host']}{head.path}{query}"
    request = AWSRequest(method=head.method, url=url)
    request.headers = headers
    request.context["timestamp"] = claim.time
    return request


def _read_claim(headers: Headers) -> Claim:
    values = headers.getlist("authorization")
    if not values:
        raise AwsError("MissingAuthenticationTokenException", "Missing Authentication Token: sign the request.", 403)
    match = _AUTHORIZATION.fullmatch(values[0].strip()) if len(values) == 1 else None
    dates = headers.getlist("x-amz-date")
    if match is None or len(dates) != 1 or not dates[0].startswith(match["day"]):
        raise AwsError(
            "IncompleteSignature",
            f"Authorization must be '{_ALGORITHM} Credential=…, SignedHeaders=…, Signature=…', with one X-Amz-Date of "
            "the same day.",
            403,
        )
    signed = tuple(match["headers"].split(";"))
    unsigned = [name for name in headers if name not in signed and (name == "host" or name.startswith("x-amz-"))]
    if unsigned:
        raise _mismatch(f"Headers must be signed that are not: {', '.join(sorted(unsigned))}.")
    return Claim(match["key"], dates[0], match["region"], match["service"], signed, match["signature"])


def _check_clock(stamp: str, now_s: float) -> None:
    try:
        signed_s = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        raise AwsError("IncompleteSignature", f"X-Amz-Date is '{stamp[:100]}'; use 20261122T155700Z.", 403) from None
    if abs(signed_s - now_s) > CLOCK_SKEW_S:
        now = datetime.fromtimestamp(now_s, UTC).strftime("%Y%m%dT%H%M%SZ")
        raise AwsError(
            "RequestExpired",
            f"Signature expired: it is of {stamp}, and now it is {now}; {CLOCK_SKEW_S // 60} minutes are allowed. "
            "Set the clock.",
            403,
        )


def _mismatch(message: str) -> AwsError:
    return AwsError("SignatureDoesNotMatch", message, 403)


def _denied(message: str) -> AwsError:
    return AwsError("AccessDeniedException", message, 403)
