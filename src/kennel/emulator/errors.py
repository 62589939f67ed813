"""What goes wrong: AWS's errors, with AWS's codes, and those of the emulator's own process.

A message says what was wrong, the value, and what to do; most begin with AWS's own words, since programs look for them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class EmulatorError(Exception):
    """The emulator itself cannot start or go on; printed as one sentence, without a traceback."""


class AwsError(Exception):
    """An answer with an AWS error code."""

    def __init__(self, code: str, message: str, status: int = 400, members: Mapping[str, object] | None = None) -> None:
        """Make one.

        Args:
            code: AWS's name of the error.
            message: for the person who reads it.
            status: of HTTP.
            members: what else the error's shape has in botocore's model, such as ModelError's OriginalStatusCode.
        """
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.members = dict(members or {})


class ValidationException(AwsError):
    """The request is not one that the API takes, or the resource is not in a state for it."""

    def __init__(self, message: str) -> None:
        super().__init__("ValidationException", message)

    @classmethod
    def of(cls, problems: Sequence[str]) -> ValidationException:
        """All that is wrong with a request, told at once in AWS's form."""
        count = f"{len(problems)} validation error" + "s" * (len(problems) > 1)
        return cls(f"{count} detected: {'; '.join(problems)}")


class ResourceNotFound(AwsError):
    """There is no such resource, from an operation whose model declares this error."""

    def __init__(self, message: str) -> None:
        super().__init__("ResourceNotFound", message)


class ResourceInUse(AwsError):
    """The name is taken, or the resource is still at work."""

    def __init__(self, message: str) -> None:
        super().__init__("ResourceInUse", message)


class ResourceLimitExceeded(AwsError):
    """There would be more than the emulator allows."""

    def __init__(self, message: str) -> None:
        super().__init__("ResourceLimitExceeded", message)


class ValidationError(AwsError):
    """What SageMaker's runtime calls a ValidationException."""

    def __init__(self, message: str) -> None:
        super().__init__("ValidationError", message)


class ModelError(AwsError):
    """A model's container answered, but not with success (HTTP 424)."""

    def __init__(self, message: str, original_status: int, original_message: str, log_stream_arn: str) -> None:
        """Make one.

        Args:
            message: the whole sentence.
            original_status: the container's.
            original_message: the container's body.
            log_stream_arn: where its log is.
        """
        members = {
            "OriginalStatusCode": original_status,
            "OriginalMessage": original_message,
            "LogStreamArn": log_stream_arn,
        }
        super().__init__("ModelError", message, 424, members)
