"""One use of the driver: where requests go, with what settings, and what is recorded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kennel.driver.errors import DriverError
from kennel.driver.requests.training import Request
from kennel.driver.requests.validate import require
from kennel.driver.session import clients, connection, project
from kennel.driver.session.clients import Clients
from kennel.driver.session.home import Home
from kennel.driver.session.project import AWS, LOCAL, Project
from kennel.driver.session.record import Entry, Record
from kennel.driver.session.refusals import explained, is_missing, is_refusal
from kennel.driver.session.reporting import Reporter, Silent

LOCAL_ROLE = "arn:aws:iam::000000000000:role/kennel-local"  # the local SageMaker asks nobody for permission


@dataclass
class Session:
    """Settings, and the two ends of the line."""

    project: Project = field(default_factory=Project)
    home: Home = field(default_factory=Home.from_environ)
    reporter: Reporter = field(default_factory=Silent)

    @classmethod
    def from_file(cls, path: Path | None = None, reporter: Reporter | None = None, **flags: Any) -> Session:
        """A session of the nearest project file, or of the one that is named; flags win.

        Raises:
            ConfigError: the file or the flags are wrong.
        """
        settings = project.load(path or project.find(Path.cwd())).with_flags(flags)
        return cls(settings, reporter=reporter or Silent())

    @property
    def is_local(self) -> bool:
        """Whether requests go to the local SageMaker."""
        return self.project.on == LOCAL

    @cached_property
    def clients(self) -> Clients:
        """boto3 clients; starts the local SageMaker when it is asked for and does not run."""
        if self.is_local:
            emulator = connection.start(self.home, self.reporter.say, runner=self.project.runner)
            return Clients(emulator.region, emulator)
        with explained():
            return clients.aws(self.project.region, connection.find(self.home))

    @cached_property
    def account(self) -> str:
        """The AWS account that requests go to; empty for the local SageMaker.

        Raises:
            DriverError: no credentials, or ones that were refused.
        """
        if self.is_local:
            return ""
        with explained("GetCallerIdentity"):
            return str(self.clients("sts").get_caller_identity()["Account"])

    def begin(self, kind: str, name: str, **details: Any) -> Entry:
        """Note a resource of this end of the line before it is created."""
        return self.record.begin(kind, name, self.project.on, self.clients.region, self.account, **details)

    @cached_property
    def record(self) -> Record:
        """What was created."""
        return Record(self.home.record_file)

    @property
    def role(self) -> str:
        """The role of jobs and models.

        Raises:
            DriverError: AWS needs one and none is set.
        """
        if self.is_local:
            return self.project.role or LOCAL_ROLE
        if not self.project.role:
            raise DriverError("AWS needs a role for the job.", "Give --role ARN, or set role in kennel.toml.")
        return self.project.role

    @property
    def base_uri(self) -> str:
        """Where outputs and uploads go: below the bucket's prefix, or below the home of the local SageMaker.

        Raises:
            DriverError: AWS needs a bucket and none is set.
        """
        if self.is_local:
            return self.home.path.as_uri()
        if not self.project.bucket:
            raise DriverError("AWS needs a bucket.", "Give --bucket NAME, or set bucket in kennel.toml.")
        return f"s3://{self.project.bucket}/{self.project.prefix.strip('/')}".rstrip("/")

    def image(self, which: str) -> str:
        """The train or the serve image.

        Raises:
            DriverError: a name on AWS that only this machine knows.
        """
        name: str = getattr(self.project.images, which)
        if self.project.on == AWS and ".dkr.ecr." not in name:
            raise DriverError(
                f"The {which} image is '{name}', which AWS cannot pull.",
                f"Push it with ./build_and_push.sh and set images.{which} in kennel.toml to the URI that it prints.",
            )
        return name

    def check(self, operation: str, request: Request, *, service: str = "sagemaker") -> None:
        """Hold a request against the service model.

        Raises:
            DriverError: with all problems.
        """
        require(operation, request, file_uris=self.is_local, service=service)

    def send(self, operation: str, request: Request, *, service: str = "sagemaker") -> Any:
        """Send a request and return the answer.

        Raises:
            DriverError: it was refused, in words.
        """
        with explained(operation):
            return self.call(operation, request, service=service)

    def find(self, operation: str, request: Request) -> Any | None:
        """Send a Describe request and return the answer; None when there is no such resource.

        Raises:
            DriverError: it was refused for another reason, in words.
        """
        try:
            return self.send(operation, request)
        except DriverError as error:
            if error.__cause__ is not None and is_missing(error.__cause__):
                return None
            raise

    def known(self, operation: str, request: Request, what: str, where: str) -> Any:
        """What `find` finds; one that is not there is an error: `what` is its kind, `where` who lists the others.

        Raises:
            DriverError: there is none of this name, or it was refused.
        """
        answer = self.find(operation, request)
        if answer is None:
            [name] = request.values()
            raise DriverError(f"There is no {what} '{name}' on {self.project.on}.", where)
        return answer

    def newest(
        self, operation: str, member: str, *, limit: int, contains: str = "", status: str = ""
    ) -> list[dict[str, Any]]:
        """What a List operation gives, page by page, the newest first.

        Args:
            operation: such as ListTrainingJobs.
            member: of its answers, with the summaries.
            limit: how many at most.
            contains: only names with this text.
            status: only those of this status.

        Raises:
            DriverError: they may not be listed.
        """
        request: Request = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": min(limit, 100)}
        request |= {"NameContains": contains} if contains else {}
        request |= {"StatusEquals": status} if status else {}
        found: list[dict[str, Any]] = []
        while len(found) < limit:
            answer = self.send(operation, request)
            found += answer[member]
            if "NextToken" not in answer:
                break
            request["NextToken"] = answer["NextToken"]
        return found[:limit]

    def call(self, operation: str, request: Request, *, service: str = "sagemaker") -> Any:
        """Send a request; errors are botocore's own."""
        client = self.clients(service)
        method: Callable[..., Any] = getattr(client, _snake(operation))
        return method(**request)

    def create(
        self, operation: str, kind: str, name: str, request: Request, *, service: str = "sagemaker", **details: Any
    ) -> Any:
        """Create a resource: noted before the request goes out, confirmed or forgotten after the answer.

        A request that ends without an answer stays noted, because the resource may exist.

        Raises:
            DriverError: it was refused, in words.
        """
        entry = self.begin(kind, name, **details)
        try:
            with explained(operation):
                answer = self.call(operation, request, service=service)
        except DriverError as error:
            if error.__cause__ is not None and is_refusal(error.__cause__):
                self.record.forget(entry)
            raise
        self.record.confirm(entry)
        return answer


def _snake(operation: str) -> str:
    from botocore import xform_name

    return str(xform_name(operation))
