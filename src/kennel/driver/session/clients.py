"""boto3 clients of the local SageMaker or of AWS. boto3 takes half a second to import and waits until it is needed."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from typing import Any

from kennel.driver.errors import DriverError
from kennel.driver.requests.service_model import loader
from kennel.driver.session.whereabouts import Emulator

LOCAL_SERVICES = ("sagemaker", "sagemaker-runtime", "logs", "cloudwatch", "sts")
_READ_TIMEOUT_S = 70  # an invocation may take 60


@dataclass
class Clients:
    """One client a service, made when it is first asked for. Safe for threads."""

    region: str
    emulator: Emulator | None = None  # None: AWS
    _made: dict[str, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __call__(self, service: str) -> Any:
        """The boto3 client of a service."""
        with self._lock:  # a client takes a tenth of a second, and its credentials may take a request
            if service not in self._made:
                self._made[service] = self._make(service)
            return self._made[service]

    def _make(self, service: str) -> Any:
        from botocore.config import Config

        options: dict[str, Any] = {"retries": {"mode": "standard", "max_attempts": 5}, "read_timeout": _READ_TIMEOUT_S}
        if service == "s3":
            options["max_pool_connections"] = 32
        if self.emulator is None or service not in LOCAL_SERVICES:
            client = _session().client(service, region_name=self.region or None, config=Config(**options))
            client.meta.events.register("after-call", _refuse_pages)
            return client
        return _session(profile=False).client(
            service,
            region_name=self.emulator.region,
            endpoint_url=self.emulator.url,
            aws_access_key_id=self.emulator.access_key_id,
            aws_secret_access_key=self.emulator.secret_access_key,
            config=Config(proxies={}, **options),  # never through a proxy to this machine
        )


def _session(*, profile: bool = True) -> Any:
    """A session; without a profile where AWS_PROFILE means nothing, so that a missing one is no error."""
    import boto3
    import botocore.session

    made = botocore.session.Session(session_vars={} if profile else {"profile": (None, None, None, None)})
    made.register_component("data_loader", loader())
    return boto3.Session(botocore_session=made)


def _refuse_pages(http_response: Any, model: Any, **_: Any) -> None:
    """A proxy's page with status 200 is no answer; botocore would take it for one that lacks all members.

    Raises:
        ResponseParserError: as botocore does for services that answer in XML.
    """
    from botocore.parsers import ResponseParserError

    speaks_xml = model.service_model.resolved_protocol in ("query", "ec2", "rest-xml")
    if not speaks_xml and not model.has_streaming_output and http_response.content.lstrip().startswith(b"<"):
        raise ResponseParserError(http_response.text)


def aws(region: str, emulator: Emulator | None) -> Clients:
    """Clients of AWS.

    Raises:
        DriverError: no region, or the environment leads back to the local SageMaker.
    """
    endpoint = os.environ.get("AWS_ENDPOINT_URL_SAGEMAKER")
    if emulator and endpoint == emulator.url:
        raise DriverError(
            "AWS_ENDPOINT_URL_SAGEMAKER points to the local SageMaker, so --on aws would not reach AWS.",
            'This shell has run eval "$(kennel env)"; use another one.',
        )
    found = region or os.environ.get("AWS_REGION") or _session().region_name  # boto3 knows AWS_DEFAULT_REGION only
    if not found:
        raise DriverError("No region.", "Give --region, set region in kennel.toml, or AWS_REGION.")
    return Clients(found)
