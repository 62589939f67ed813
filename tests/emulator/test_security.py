"""Each rule of docs/security.md about who is let in, on the gate itself; test_server.py has them over HTTP."""

import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as Keys
from starlette.datastructures import Headers

from kennel.emulator.errors import AwsError, EmulatorError
from kennel.emulator.http.credentials import Credentials, load_or_make
from kennel.emulator.http.security import CLOCK_SKEW_S, Gate, Head

pytestmark = pytest.mark.pure

KEY = Credentials("KENNELAAAAAAAAAAAAAA", "s3cret")
PORT = 4321
BODY = b'{"TrainingJobName": "a"}'


@pytest.fixture
def gate() -> Gate:
    return Gate(KEY, "us-east-1", PORT)


def signed(
    *,
    key: Credentials = KEY,
    path: str = "/",
    region: str = "us-east-1",
    service: str = "sagemaker",
    body: bytes = BODY,
    extra: dict[str, str] | None = None,
) -> Head:
    """A request as botocore signs it."""
    headers = {"X-Amz-Target": "SageMaker.DescribeTrainingJob", **(extra or {})}
    request = AWSRequest("POST", f"http://127.0.0.1:{PORT}{path}", headers=headers, data=body)
    SigV4Auth(Keys(key.access_key_id, key.secret_access_key), service, region).add_auth(request)
    sent = {"host": f"127.0.0.1:{PORT}", **{name.lower(): value for name, value in request.headers.items()}}
    bare, _, query = path.partition("?")
    return Head("POST", bare, query, Headers(sent))


def changed(head: Head, **headers: str | None) -> Head:
    values = dict(head.headers.items())
    for name, value in headers.items():
        values.pop(name.replace("_", "-"), None)
        if value is not None:
            values[name.replace("_", "-")] = value
    return Head(head.method, head.path, head.query, Headers(values))


def enter(gate: Gate, head: Head, body: bytes = BODY, now_s: float | None = None) -> None:
    gate.check_source(head.headers)
    gate.check_signature(gate.check_claim(head.headers, now_s), head, body)


def refusal(act: Callable[[], None]) -> AwsError:
    with pytest.raises(AwsError) as caught:
        act()
    assert caught.value.status == 403
    return caught.value


def test_a_request_signed_with_the_key_enters(gate: Gate) -> None:
    enter(gate, signed())
    enter(gate, signed(path="/endpoints/a%20b%3Ac/invocations?b=2&a=1", body=b"\xff\x00"), b"\xff\x00")
    enter(gate, signed(body=b""), b"")
    enter(gate, signed(extra={"X-Amz-Security-Token": "left over in the environment"}))


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_the_names_of_this_machine_are_hosts(gate: Gate, name: str) -> None:
    gate.check_source(Headers({"host": f"{name}:{PORT}"}))


@pytest.mark.parametrize(
    "host", ["evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}", f"127.0.0.1.evil:{PORT}", ""]
)
def test_a_name_that_was_rebound_to_this_machine_is_no_host(gate: Gate, host: str) -> None:
    error = refusal(lambda: gate.check_source(Headers({"host": host})))
    assert error.code == "AccessDeniedException"


@pytest.mark.parametrize(
    "header",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": f"http://localhost:{PORT}"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},  # another server of this machine: ports do not make another site
        {"sec-fetch-site": "same-origin"},
    ],
)
def test_a_browsers_page_is_refused(gate: Gate, header: dict[str, str]) -> None:
    error = refusal(lambda: gate.check_source(Headers({"host": f"127.0.0.1:{PORT}", **header})))
    assert error.code == "AccessDeniedException"


def test_without_a_signature_nobody_enters(gate: Gate) -> None:
    error = refusal(lambda: enter(gate, changed(signed(), authorization=None)))
    assert error.code == "MissingAuthenticationTokenException"


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer x", "AWS4-HMAC-SHA256 Credential=a", "AWS4-HMAC-SHA256 " + "Credential=a/b/c/d/e, " * 100],
)
def test_a_broken_signature_is_told_its_form(gate: Gate, authorization: str) -> None:
    error = refusal(lambda: enter(gate, changed(signed(), authorization=authorization)))
    assert error.code == "IncompleteSignature"


def test_another_key_is_unknown(gate: Gate) -> None:
    stranger = Credentials("AKIAIOSFODNN7EXAMPLE", KEY.secret_access_key)
    assert refusal(lambda: enter(gate, signed(key=stranger))).code == "UnrecognizedClientException"
    assert refusal(lambda: enter(gate, signed(key=stranger, service="sts"))).code == "InvalidClientTokenId"


def test_another_secret_does_not_match(gate: Gate) -> None:
    error = refusal(lambda: enter(gate, signed(key=Credentials(KEY.access_key_id, "guess"))))
    assert error.code == "SignatureDoesNotMatch"
    assert KEY.secret_access_key not in error.message


def test_nothing_that_was_signed_can_be_changed(gate: Gate) -> None:
    head = signed(path="/endpoints/a/invocations?x=1")
    others = [
        (head, b"other"),
        (head, b""),
        (Head("PUT", head.path, head.query, head.headers), BODY),
        (Head("POST", "/endpoints/b/invocations", head.query, head.headers), BODY),
        (Head("POST", head.path, "x=2", head.headers), BODY),
        (changed(head, x_amz_target="SageMaker.DeleteTrainingJob"), BODY),
        (changed(head, host=f"localhost:{PORT}"), BODY),
        (changed(head, authorization=head.headers["authorization"][:-1] + "g"), BODY),
        (changed(head, authorization=head.headers["authorization"].replace("/sagemaker/", "/logs/")), BODY),
    ]
    for other, body in others:
        assert refusal(lambda: enter(gate, other, body)).code in ("SignatureDoesNotMatch", "IncompleteSignature")  # noqa: B023


def test_a_header_for_aws_that_was_not_signed_is_refused(gate: Gate) -> None:
    error = refusal(lambda: enter(gate, changed(signed(), x_amz_other="1")))
    assert error.code == "SignatureDoesNotMatch"
    assert "x-amz-other" in error.message


@pytest.mark.parametrize("digest", ["UNSIGNED-PAYLOAD", "0" * 64])
def test_the_body_is_always_part_of_the_signature(gate: Gate, digest: str) -> None:
    head = signed(extra={"X-Amz-Content-SHA256": digest})
    assert refusal(lambda: enter(gate, head)).code == "SignatureDoesNotMatch"


def test_a_clock_may_be_off_by_five_minutes_and_no_more(gate: Gate) -> None:
    head, now_s = signed(), time.time()
    assert CLOCK_SKEW_S == 300
    for skew_s in (-290, 290):
        enter(gate, head, now_s=now_s + skew_s)
    for skew_s in (-310, 310, 10**8):
        assert refusal(lambda: enter(gate, head, now_s=now_s + skew_s)).code == "RequestExpired"  # noqa: B023


def test_another_region_is_told_which_one_is_here(gate: Gate) -> None:
    error = refusal(lambda: enter(gate, signed(region="eu-west-1")))
    assert "Set AWS_REGION=us-east-1" in error.message
    enter(gate, signed(region="eu-west-1", service="sts"))


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    old = os.umask(0)
    try:
        made = load_or_make(file)
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_or_make(file) == made
    assert len(made.secret_access_key) >= 40
    assert load_or_make(tmp_path / "another.json") != made
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    file = tmp_path / "credentials.json"
    load_or_make(file)
    file.chmod(0o644)
    with pytest.raises(EmulatorError, match="Run: chmod 600"):
        load_or_make(file)


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"AccessKeyId": "a"}'])
def test_a_broken_key_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "credentials.json"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(EmulatorError, match="Delete it and start again"):
        load_or_make(file)
