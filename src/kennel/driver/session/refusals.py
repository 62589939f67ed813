"""What AWS (or the local SageMaker) refused, as one sentence and what to do about it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

from kennel.driver.errors import DriverError

_DENIED = ("AccessDenied", "AccessDeniedException", "AccessDeniedError", "UnauthorizedOperation", "403", "Forbidden")
_STALE = ("ExpiredToken", "ExpiredTokenException", "InvalidClientTokenId", "UnrecognizedClientException",
          "SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidSignatureException")  # fmt: skip
_MESSAGE_CHARS = 1500  # a failure reason has 1024
_WEB_PAGE = re.compile(r"(?i)<!doctype html|<html\b")
_TITLE = re.compile(r"(?is)<title>(.*?)</title>")
_NOT_AUTHORIZED = re.compile(
    r"(?:User|principal)?:?\s*(?P<who>arn:\S+)? ?is not authorized to perform: (?P<action>[\w:-]+)"
    r"(?: on resource: (?P<resource>\S+))?"
)


def code_of(error: BaseException) -> str:
    """The error code of a botocore ClientError; empty for anything else."""
    response: Any = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def message_of(error: BaseException) -> str:
    """The message of an error in one line; of an answer in no form of AWS only what it is."""
    response: Any = getattr(error, "response", None)
    message = str(response.get("Error", {}).get("Message", "")) if isinstance(response, dict) else ""
    text = " ".join((message or str(error)).split())
    if _WEB_PAGE.search(text):
        title = _TITLE.search(text)
        return f"the answer is a web page{f', {title[1].strip()!r}' if title else ''}, not AWS's"
    if type(error).__name__ == "ResponseParserError":
        return "the answer is in no form of AWS"
    return text[:_MESSAGE_CHARS]


def is_missing(error: BaseException) -> bool:
    """Whether the other end says that there is no such resource; SageMaker says so in two ways."""
    code, message = code_of(error), message_of(error)
    return code in ("ResourceNotFound", "ResourceNotFoundException", "NoSuchKey", "404", "ObjectNotFoundException") or (
        code == "ValidationException"
        and re.search(r"(?i)could not find|not found|does not exist|cannot find", message) is not None
    )


def is_refusal(error: BaseException) -> bool:
    """Whether nothing was created: the other end read the request and said no."""
    response: Any = getattr(error, "response", None)
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) if isinstance(response, dict) else 0
    return 400 <= status < 500


@contextlib.contextmanager
def explained(doing: str = "") -> Iterator[None]:
    """Turn botocore's errors into a DriverError that says what to do.

    Raises:
        DriverError: for each of botocore's errors.
    """
    try:
        yield
    except botocore_errors() as error:
        raise explain(error, doing) from error


def botocore_errors() -> tuple[type[Exception], ...]:
    """Everything that botocore raises for the other end, the way there, or this machine's settings."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError  # an answer in no form of AWS, such as a proxy's web page

    return BotoCoreError, ClientError, ResponseParserError


def explain(error: BaseException, doing: str = "") -> DriverError:
    """A refusal in words; a missing permission is named."""
    if not code_of(error):
        return _explain_local(error, doing)
    code, message = code_of(error), message_of(error)
    before = f"{doing}: " if doing else ""
    denied = _NOT_AUTHORIZED.search(message)
    if denied:
        who = denied["who"] or "Your identity"
        where = f" on {denied['resource']}" if denied["resource"] else ""
        return DriverError(
            f"{before}{who} lacks the permission {denied['action']}{where}.",
            f"Allow {denied['action']}{where} in a policy of that identity.",
        )
    if code in _DENIED:
        action = getattr(error, "operation_name", "")
        return DriverError(f"{before}access denied ({action}).", f"Allow {action} for your identity.")
    if code in _STALE:
        return DriverError(
            f"{before}the credentials were refused ({code}: {message}).",
            "Log in again (aws sso login), or set new keys; kennel doctor shows which are used.",
        )
    if code == "ResourceLimitExceeded":
        return DriverError(
            f"{before}{message}", "Ask for a higher quota in Service Quotas, or use another instance type."
        )
    return DriverError(f"{before}{message} ({code})")


def _explain_local(error: BaseException, doing: str) -> DriverError:
    name, before = type(error).__name__, f"{doing}: " if doing else ""
    if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"):
        return DriverError(f"{before}no AWS credentials.", "aws configure, aws sso login, or set AWS_PROFILE.")
    if name == "ProfileNotFound":
        return DriverError(f"{before}{error}.", "Set AWS_PROFILE to one of: aws configure list-profiles.")
    if name in ("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "ConnectionClosedError"):
        return DriverError(f"{before}{error}", "Check the network; for the local SageMaker, kennel status.")
    if name == "ResponseParserError":
        return DriverError(
            f"{before}{message_of(error)}.",
            "Something between this machine and AWS answers: see HTTPS_PROXY and AWS_ENDPOINT_URL.",
        )
    if name == "NoRegionError":
        return DriverError(f"{before}no region.", "Give --region, set region in kennel.toml, or AWS_REGION.")
    return DriverError(f"{before}{message_of(error)}")
