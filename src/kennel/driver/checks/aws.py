"""Before anything is uploaded or paid for: does the bucket exist, may the role do what a job needs?

Sources: developer guide, "How to use SageMaker AI execution roles" (the permissions that CreateTrainingJob and
CreateModel need); IAM's SimulatePrincipalPolicy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from kennel.driver.checks.findings import FAIL, OK, WARN, Finding, require
from kennel.driver.session.clients import Clients
from kennel.driver.session.project import Kms, Project, Vpc
from kennel.driver.session.refusals import botocore_errors, code_of, explain, is_missing

_ROLE = re.compile(r"arn:(?P<partition>aws[a-z-]*):iam::(?P<account>\d{12}):role/(?P<path>.+)")
_SERVICE = "sagemaker.amazonaws.com"
_LOG_ACTIONS = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents", "cloudwatch:PutMetricData")
_NO_KEYS, _NO_VPC = Kms(), Vpc()
_KEY_ACTIONS = ("kms:Encrypt", "kms:Decrypt", "kms:GenerateDataKey")
_VPC_ACTIONS = (
    "ec2:CreateNetworkInterface", "ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface",
    "ec2:DeleteNetworkInterfacePermission", "ec2:DescribeNetworkInterfaces", "ec2:DescribeVpcs",
    "ec2:DescribeDhcpOptions", "ec2:DescribeSubnets", "ec2:DescribeSecurityGroups",
)  # fmt: skip
_ECR_ACTIONS = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability")


def require_account(clients: Clients, project: Project, role: str, image: str, say: Callable[[str], None]) -> None:
    """Look at all of it, and tell what was found.

    Args:
        clients: for AWS.
        project: whose bucket and keys are meant.
        role: its ARN; empty: somebody else's matter.
        image: what the role must be able to fetch.
        say: told each finding.

    Raises:
        DriverError: something is missing.
    """
    found = [check_identity(clients)]
    require(found)  # without credentials nothing else can be asked
    found.append(check_bucket(clients, project.bucket))
    if role:
        found += check_role(clients, role, project.bucket, images=[image], kms=project.kms, vpc=project.vpc)
    for finding in found:
        say(f"{finding.subject}: {finding.text}")
    require(found)


def check_identity(clients: Clients) -> Finding:
    """Who asks."""
    try:
        identity = clients("sts").get_caller_identity()
    except botocore_errors() as error:
        refused = explain(error)
        return Finding(FAIL, "credentials", str(refused), refused.hint or "aws configure, or aws sso login.")
    return Finding(OK, "credentials", f"{identity['Arn']} in {clients.region}")


def check_bucket(clients: Clients, bucket: str) -> Finding:
    """Whether the bucket exists, can be reached, and lies in the region of the job."""
    subject = f"bucket {bucket}"
    try:
        head = clients("s3").head_bucket(Bucket=bucket)
    except botocore_errors() as error:
        return _bucket_refused(error, subject, bucket, clients.region)
    region = head.get("BucketRegion") or clients.region
    if region != clients.region:
        return _elsewhere(subject, region, clients.region)
    return Finding(OK, subject, f"in {region}")


def _bucket_refused(error: Any, subject: str, bucket: str, region: str) -> Finding:
    code = code_of(error)
    answer = getattr(error, "response", {})
    own = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("x-amz-bucket-region")
    if code in ("301", "PermanentRedirect", "400") and own and own != region:
        return _elsewhere(subject, own, region)
    if is_missing(error) or code == "NoSuchBucket":
        return Finding(FAIL, subject, "does not exist.", f"aws s3 mb s3://{bucket} --region {region}")
    if code in ("403", "AccessDenied", "Forbidden"):
        return Finding(
            FAIL, subject, f"your identity lacks s3:ListBucket on arn:aws:s3:::{bucket}, or it is another account's.",
            f"Allow s3:ListBucket on arn:aws:s3:::{bucket}.",
        )  # fmt: skip
    return Finding(FAIL, subject, str(explain(error)))


def _elsewhere(subject: str, own: str, region: str) -> Finding:
    return Finding(
        FAIL, subject, f"lies in {own}, the job would run in {region}.", f"Use a bucket in {region}, or --region {own}."
    )


def check_role(
    clients: Clients, role: str, bucket: str, *, images: Sequence[str] = (), kms: Kms = _NO_KEYS, vpc: Vpc = _NO_VPC
) -> list[Finding]:
    """Whether SageMaker may take the role, and the role may do what a job needs: every missing permission by name."""
    match = _ROLE.fullmatch(role)
    if not match:
        return [Finding(FAIL, "role", f"'{role}' is not the ARN of a role.", "Write arn:aws:iam::ACCOUNT:role/NAME.")]
    name = match["path"].rpartition("/")[2]
    subject = f"role {name}"
    try:
        found = clients("iam").get_role(RoleName=name)["Role"]
    except botocore_errors() as error:
        if code_of(error) == "NoSuchEntity":
            return [Finding(FAIL, subject, "does not exist.", "aws iam list-roles shows those that do.")]
        return [Finding(WARN, subject, f"not checked: {explain(error)}")]
    needs = needed(match["partition"], bucket, images, kms, vpc)
    return [_trust(subject, found["AssumeRolePolicyDocument"]), *_simulate(clients, role, subject, needs)]


def needed(partition: str, bucket: str, images: Sequence[str], kms: Kms, vpc: Vpc) -> list[tuple[tuple[str, ...], str]]:
    """The actions that a job's role needs, each group with the resource it needs them on.

    Of keys, those given by their ARN: permissions are on keys, not on aliases.
    """
    arn = f"arn:{partition}:s3:::{bucket}"
    needs: list[tuple[tuple[str, ...], str]] = [
        (("s3:ListBucket",), arn),
        (("s3:GetObject", "s3:PutObject"), f"{arn}/*"),
        (_LOG_ACTIONS, "*"),
    ]
    repositories = {found for image in images if (found := _repository(partition, image))}
    if repositories:
        needs.append((("ecr:GetAuthorizationToken",), "*"))
    needs += [(_ECR_ACTIONS, repository) for repository in sorted(repositories)]
    needs += [(_KEY_ACTIONS, key) for key in sorted({kms.volume, kms.output}) if ":key/" in key]
    if ":key/" in kms.volume:
        needs.append((("kms:CreateGrant",), kms.volume))
    if vpc.subnets:
        needs.append((_VPC_ACTIONS, "*"))
    return needs


def _repository(partition: str, image: str) -> str | None:
    match = re.fullmatch(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.[a-z.]+/([^:@]+)(?:[:@].*)?", image)
    return f"arn:{partition}:ecr:{match[2]}:{match[1]}:repository/{match[3]}" if match else None


def _trust(subject: str, document: Any) -> Finding:
    text = document if isinstance(document, str) else json.dumps(document)
    if _SERVICE in text:
        return Finding(OK, subject, "trusts SageMaker")
    return Finding(
        FAIL, subject, f"does not trust {_SERVICE}.", f"Add sts:AssumeRole for {_SERVICE} to its trust policy."
    )


def _simulate(clients: Clients, role: str, subject: str, needs: list[tuple[tuple[str, ...], str]]) -> list[Finding]:
    try:
        missing = [
            (action, resource)
            for actions, resource in needs
            for action in denied(
                clients("iam").simulate_principal_policy(
                    PolicySourceArn=role, ActionNames=list(actions), ResourceArns=[resource]
                )
            )
        ]
    except botocore_errors() as error:
        refused = explain(error)
        return [Finding(WARN, subject, f"its permissions were not checked: {refused}", refused.hint)]
    if not missing:
        return [Finding(OK, subject, "has the permissions that a job needs")]
    return [
        Finding(FAIL, subject, f"lacks {action} on {resource}.", f"Allow {action} on {resource}.")
        for action, resource in missing
    ]


def denied(answer: Any) -> list[str]:
    """The actions that SimulatePrincipalPolicy's answer does not allow."""
    return [r["EvalActionName"] for r in answer["EvaluationResults"] if r["EvalDecision"] != "allowed"]
