import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError
from botocore.parsers import ResponseParserError

from kennel.driver.errors import DriverError
from kennel.driver.session.refusals import explained, is_missing, is_refusal
from tests.driver.conftest import REGION, Kennel
from tests.driver.scripted_aws import scripted


def refused(code: str, message: str, status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "CreateTrainingJob")  # type: ignore[arg-type]


DENIED = (
    "User: arn:aws:iam::123456789012:user/me is not authorized to perform: sagemaker:CreateTrainingJob on resource: "
    "arn:aws:sagemaker:eu-central-1:123456789012:training-job/x because no identity-based policy allows the "
    "sagemaker:CreateTrainingJob action"
)
PAGE = "<!doctype html>\n<html lang=en>\n<title>Sign in</title>\n<p>The proxy of Example asks who you are.</p>"


@pytest.mark.parametrize(
    ("error", "said", "hint"),
    [
        (
            refused("AccessDeniedException", DENIED),
            "arn:aws:iam::123456789012:user/me lacks the permission sagemaker:CreateTrainingJob on "
            "arn:aws:sagemaker:eu-central-1:123456789012:training-job/x.",
            "Allow sagemaker:CreateTrainingJob",
        ),
        (refused("AccessDenied", "Access Denied", 403), "access denied (CreateTrainingJob)", "Allow CreateTrainingJob"),
        (refused("ExpiredTokenException", "old"), "the credentials were refused", "aws sso login"),
        (refused("ResourceLimitExceeded", "0 instances"), "0 instances", "Service Quotas"),
        (refused("ValidationException", "No"), "No (ValidationException)", ""),
        (refused("500", PAGE, 500), "the answer is a web page, 'Sign in', not AWS's (500)", ""),
        (
            ResponseParserError(f"Unable to parse response, invalid XML received: {PAGE.encode()!r}"),
            "the answer is a web page, 'Sign in', not AWS's.",
            "HTTPS_PROXY",
        ),
        (
            ResponseParserError("Unable to parse response: b'rubbish'"),
            "the answer is in no form of AWS.",
            "HTTPS_PROXY",
        ),
        (NoCredentialsError(), "no AWS credentials", "aws configure"),
        (EndpointConnectionError(endpoint_url="http://127.0.0.1:1"), "127.0.0.1:1", "kennel status"),
    ],
)
def test_a_refusal_says_what_to_do(error: Exception, said: str, hint: str) -> None:
    with pytest.raises(DriverError) as told, explained():
        raise error
    assert said in str(told.value)
    assert hint in told.value.hint
    assert "<" not in str(told.value)


def test_missing_and_refused_are_told_apart() -> None:
    assert is_missing(refused("ValidationException", 'Could not find endpoint "x".'))
    assert is_missing(refused("ResourceNotFound", "Requested resource not found."))
    assert not is_missing(refused("ValidationException", "1 validation error detected"))
    assert is_refusal(refused("ValidationException", "x", 400))
    assert not is_refusal(refused("InternalFailure", "x", 500))
    assert not is_refusal(NoCredentialsError())


def test_a_page_with_status_200_is_no_answer(kennel: Kennel) -> None:
    """What a proxy gives to those who have not signed in."""
    with scripted() as (script, url):
        script.answers["ListTrainingJobs"] = [(200, PAGE.encode())]
        keys = {"AWS_ACCESS_KEY_ID": "t", "AWS_SECRET_ACCESS_KEY": "t", "AWS_REGION": REGION}
        done = kennel("jobs", "--on", "aws", AWS_ENDPOINT_URL=url, **keys)
    assert done.code == 1
    assert done.err.startswith("kennel: ListTrainingJobs: the answer is a web page, 'Sign in', not AWS's.\n")
    assert "Traceback" not in done.err
