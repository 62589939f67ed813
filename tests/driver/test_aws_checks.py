"""Bucket and role checks against moto, and against a small IAM of our own where moto has no simulation."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import boto3
import pytest

from kennel.driver.checks import aws as checks
from kennel.driver.checks.findings import FAIL, OK, WARN, Finding, require
from kennel.driver.errors import DriverError
from kennel.driver.session.clients import Clients
from kennel.driver.session.project import Kms, Vpc
from tests.driver.conftest import REGION, ROLE, SERVE_IMAGE, TRAIN_IMAGE, TRUST, Aws

PAGE = """<SimulatePrincipalPolicyResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/">
<SimulatePrincipalPolicyResult><IsTruncated>false</IsTruncated><EvaluationResults>{members}</EvaluationResults>
</SimulatePrincipalPolicyResult></SimulatePrincipalPolicyResponse>"""
ROLE_PAGE = """<GetRoleResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><GetRoleResult><Role>
<Path>/</Path><RoleName>kennel</RoleName><RoleId>AROA1234567890EXAMPLE</RoleId><Arn>{arn}</Arn>
<CreateDate>2026-01-01T00:00:00Z</CreateDate><AssumeRolePolicyDocument>{trust}</AssumeRolePolicyDocument>
</Role></GetRoleResult></GetRoleResponse>"""


DENIED_PAGE = """<ErrorResponse><Error><Code>AccessDenied</Code><Message>User: arn:me is not authorized to perform: \
iam:SimulatePrincipalPolicy on resource: x</Message></Error></ErrorResponse>"""


class Iam(ThreadingHTTPServer):
    """Denies the actions that it is told to."""

    def __init__(self, denied: set[str], trust: str) -> None:
        self.denied, self.trust, self.may_simulate = denied, trust, True
        super().__init__(("127.0.0.1", 0), IamHandler)


class IamHandler(BaseHTTPRequestHandler):
    server: Iam

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        if form["Action"] == ["GetRole"]:
            body = ROLE_PAGE.format(arn=ROLE, trust=self.server.trust)
        else:
            actions = [values[0] for name, values in form.items() if name.startswith("ActionNames.member.")]
            members = "".join(
                f"<member><EvalActionName>{action}</EvalActionName><EvalDecision>"
                f"{'implicitDeny' if action in self.server.denied else 'allowed'}</EvalDecision></member>"
                for action in actions
            )
            body = PAGE.format(members=members)
            if not self.server.may_simulate:
                body = DENIED_PAGE
        self.send_response(403 if body == DENIED_PAGE else 200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        pass


def clients(aws: Aws, iam_url: str | None = None) -> Clients:
    """The driver's own holder of clients, filled with clients of these servers."""
    made = {name: aws.client(name) for name in ("s3", "sts", "iam")}
    if iam_url:
        made["iam"] = boto3.client(
            "iam",
            region_name=REGION,
            endpoint_url=iam_url,
            aws_access_key_id="t",
            aws_secret_access_key="t",  # noqa: S106
        )
    return Clients(REGION, None, made)


@pytest.fixture
def iam() -> Iterator[Iam]:
    with Iam(set(), json.dumps(TRUST)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def role(aws: Aws, iam: Iam) -> list[Finding]:
    url = f"http://127.0.0.1:{iam.server_address[1]}"
    return checks.check_role(clients(aws, url), ROLE, "dogs", images=[TRAIN_IMAGE, SERVE_IMAGE])


def test_who_asks_is_told(aws: Aws) -> None:
    found = checks.check_identity(clients(aws))
    assert found.level == OK
    assert "arn:aws:sts::123456789012:user/moto" in found.text


def test_a_bucket_that_exists_is_fine_and_one_that_does_not_has_its_command(aws: Aws) -> None:
    assert checks.check_bucket(clients(aws), "dogs").level == OK
    missing = checks.check_bucket(clients(aws), "cats")
    assert (missing.level, missing.text) == (FAIL, "does not exist.")
    assert missing.hint == f"aws s3 mb s3://cats --region {REGION}"


def test_a_bucket_of_another_region_is_refused(aws: Aws) -> None:
    aws.client("s3", "eu-west-1").create_bucket(
        Bucket="far", CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    found = checks.check_bucket(clients(aws), "far")
    assert found.level == FAIL
    assert "lies in eu-west-1, the job would run in eu-central-1" in found.text


def test_a_role_that_may_do_everything_is_fine(aws: Aws, iam: Iam) -> None:
    assert [(f.level, f.text) for f in role(aws, iam)] == [
        (OK, "trusts SageMaker"),
        (OK, "has the permissions that a job needs"),
    ]


def test_each_missing_permission_is_named_with_its_resource(aws: Aws, iam: Iam) -> None:
    iam.denied = {"s3:PutObject", "ecr:BatchGetImage"}
    failed = [f.text for f in role(aws, iam) if f.level == FAIL]
    assert failed == [
        "lacks s3:PutObject on arn:aws:s3:::dogs/*.",
        "lacks ecr:BatchGetImage on arn:aws:ecr:eu-central-1:123456789012:repository/kennel-serve.",
        "lacks ecr:BatchGetImage on arn:aws:ecr:eu-central-1:123456789012:repository/kennel-train.",
    ]
    with pytest.raises(DriverError, match=r"role kennel: lacks s3:PutObject on arn:aws:s3:::dogs/\*") as stopped:
        require(role(aws, iam))
    assert "Allow s3:PutObject" in stopped.value.hint


def test_a_role_that_sagemaker_may_not_take_is_refused(aws: Aws, iam: Iam) -> None:
    iam.trust = json.dumps(TRUST).replace("sagemaker", "lambda")
    assert "does not trust sagemaker.amazonaws.com" in role(aws, iam)[0].text


def test_where_simulation_is_not_allowed_it_is_a_warning(aws: Aws, iam: Iam) -> None:
    iam.may_simulate = False
    found = role(aws, iam)
    assert [f.level for f in found] == [OK, WARN]
    assert "arn:me lacks the permission iam:SimulatePrincipalPolicy" in found[1].text
    assert "Allow iam:SimulatePrincipalPolicy" in found[1].hint


def test_an_answer_that_is_none_is_a_warning(aws: Aws) -> None:
    """moto answers SimulatePrincipalPolicy with a web page, as a proxy may."""
    trusted, unknown = checks.check_role(clients(aws), ROLE, "dogs")
    assert (trusted.level, unknown.level) == (OK, WARN)
    assert unknown.text == (
        "its permissions were not checked: the answer is a web page, '500 Internal Server Error', not AWS's."
    )
    assert "HTTPS_PROXY" in unknown.hint


@pytest.mark.parametrize(
    ("arn", "sentence"),
    [("kennel", "is not the ARN of a role"), (ROLE.replace("kennel", "nobody"), "does not exist")],
)
def test_a_role_that_is_none_is_refused(aws: Aws, arn: str, sentence: str) -> None:
    [found] = checks.check_role(clients(aws), arn, "dogs")
    assert found.level == FAIL
    assert sentence in found.text


def test_keys_and_images_of_others_need_their_own_permissions() -> None:
    key = "arn:aws:kms:eu-central-1:123456789012:key/1"
    kms, vpc = Kms(volume=key, output="alias/x"), Vpc(("subnet-1",), ("sg-1",))
    needs = checks.needed("aws", "b", ["python:3.11"], kms, vpc)
    assert [actions for actions, resource in needs if resource == key] == [
        ("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey"),
        ("kms:CreateGrant",),
    ]
    asked = {action for actions, _ in needs for action in actions}
    assert "ec2:CreateNetworkInterfacePermission" in asked
    assert not any(action.startswith("ecr") for action in asked)
    plain = checks.needed("aws", "b", ["python:3.11"], Kms(output=key), Vpc())
    assert not {"kms:CreateGrant", "ec2:DescribeVpcs"} & {action for actions, _ in plain for action in actions}
