"""What an endpoint runs: a configuration and its models as they were when they were deployed, and how that is shown.

A deployment is a JSON object in the endpoint's document, `_current` the one that answers and `_next` the one that is
being started: `generation`, `config` (the endpoint configuration's document), `models`, `weights` and `counts` by the
names of its variants. What is deleted or changed afterwards does not change it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kennel.emulator.documents.names import ACCOUNT
from kennel.emulator.errors import ValidationError
from kennel.emulator.state.store import Document

KIND = "endpoint"
CURRENT, NEXT, GENERATION, SCALED_FROM = "_current", "_next", "_generation", "_scaled_from"
REASON_CHARS = 1024  # of DescribeEndpoint's FailureReason
CREATING, UPDATING, IN_SERVICE, FAILED = "Creating", "Updating", "InService", "Failed"
ROLLING_BACK, OUT_OF_SERVICE, DELETING = "RollingBack", "OutOfService", "Deleting"
SINGLE_MODEL, MULTI_MODEL = "SingleModel", "MultiModel"  # a container's Mode
_KEY = re.compile(r"(\d+)/([^/]+)/(\d+)")


@dataclass(frozen=True, order=True)
class Key:
    """One instance of an endpoint."""

    generation: int
    variant: str
    index: int

    def __str__(self) -> str:
        return f"{self.generation}/{self.variant}/{self.index}"

    @property
    def log_stream(self) -> str:
        """Where its log is kept, in the endpoint's group."""
        return f"{self.variant}/i-{self.generation}-{self.index}"

    @classmethod
    def parse(cls, text: str) -> Key | None:
        """What `str` made; None for anything else."""
        found = _KEY.fullmatch(text)
        return cls(int(found[1]), found[2], int(found[3])) if found else None


def new_deployment(generation: int, config: Document, models: Mapping[str, Document]) -> Document:
    """A deployment with the weights and counts that the configuration begins with."""
    variants = config["ProductionVariants"]
    return {
        "generation": generation,
        "config": config,
        "models": dict(models),
        "weights": {one["VariantName"]: one["InitialVariantWeight"] for one in variants},
        "counts": {one["VariantName"]: one.get("InitialInstanceCount", 1) for one in variants},
        "capture": config.get("DataCaptureConfig"),
    }


def container_of(model: Mapping[str, Any]) -> Mapping[str, Any]:
    """The one container definition of a model."""
    found: Mapping[str, Any] = model.get("PrimaryContainer") or model["Containers"][0]
    return found


def keys(deployment: Document | None) -> Iterator[Key]:
    """All instances that there should be."""
    for variant, count in (deployment or {"counts": {}})["counts"].items():
        for index in range(count):
            yield Key(deployment["generation"], variant, index)  # type: ignore[index]


def variants(deployment: Document) -> Iterator[Document]:
    """The configuration's variants."""
    yield from deployment["config"]["ProductionVariants"]


def summaries(deployment: Document, healthy: Mapping[str, int], status: str | None, since_s: float) -> list[Document]:
    """ProductionVariants of DescribeEndpoint: `healthy` instances there are, and what the variants go through."""
    return [_summary(deployment, variant, healthy, status, since_s) for variant in variants(deployment)]


def _summary(
    deployment: Document, variant: Document, healthy: Mapping[str, int], status: str | None, since_s: float
) -> Document:
    name = variant["VariantName"]
    weight = deployment["weights"][name]
    shown: dict[str, Any] = {
        "VariantName": name,
        "DeployedImages": [_image(deployment["models"][name], since_s)],
        "CurrentWeight": weight,
        "DesiredWeight": weight,
        "CurrentInstanceCount": healthy.get(name, 0),
        "DesiredInstanceCount": deployment["counts"][name],
    }
    if "ServerlessConfig" in variant:
        shown |= {f"{when}ServerlessConfig": variant["ServerlessConfig"] for when in ("Current", "Desired")}
    if "RoutingConfig" in variant:
        shown["RoutingConfig"] = variant["RoutingConfig"]
    if status:
        shown["VariantStatus"] = [{"Status": status, "StartTime": since_s}]
    return shown


def _image(model: Document, since_s: float) -> Document:
    image = container_of(model)["Image"]
    return {"SpecifiedImage": image, "ResolvedImage": image, "ResolutionTime": since_s}


def capture_summary(deployment: Document) -> Document | None:
    """DataCaptureConfig of DescribeEndpoint."""
    capture = deployment.get("capture")
    if not capture:
        return None
    enabled = bool(capture.get("EnableCapture"))
    return {
        "EnableCapture": enabled,
        "CaptureStatus": "Started" if enabled else "Stopped",
        "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
        "DestinationS3Uri": capture["DestinationS3Uri"],
        "KmsKeyId": capture.get("KmsKeyId", ""),
    }


def endpoint_not_found(name: str) -> ValidationError:
    """The runtime's error for an endpoint that is not there or not in service, in AWS's words."""
    return ValidationError(
        f"Endpoint {name} of account {ACCOUNT} not found. List them with: aws sagemaker list-endpoints"
    )
