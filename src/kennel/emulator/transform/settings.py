"""What a transform job's request says, and what is settled with its container where it says nothing.

Sources: API reference, CreateTransformJob, ModelClientConfig, TransformInput; developer guide, "Custom Inference Code
with Batch Transform", for the variables and GET /execution-parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kennel.emulator.transform.data_processing import DataProcessing, processing_refusals
from kennel.emulator.transform.splitting import MULTI, NO_SPLIT, SINGLE, Splitting
from kennel.storage import StorageError, Uri

MAX_TOTAL_MB = 100  # of all requests under way to one instance
MAX_INSTANCES = 8  # containers of one job; all share this machine
_MEBIBYTE = 1 << 20
_DEFAULT_PAYLOAD_MB = 6
_TIMEOUT_S, _RETRIES = 600.0, 3
_SOURCES = ("S3Prefix", "ManifestFile")
_STRATEGY_WORDS = {SINGLE: "SINGLE_RECORD", MULTI: "MULTI_RECORD"}  # of the container's contract


@dataclass(frozen=True)
class Limits:
    """How a container is invoked."""

    concurrent: int  # requests at once to one instance
    payload_mb: int
    strategy: str  # SingleRecord or MultiRecord

    def splitting(self, split: str) -> Splitting:
        """How objects are cut under these limits."""
        return Splitting(split, self.strategy, self.payload_mb * _MEBIBYTE)

    def __str__(self) -> str:
        strategy = _STRATEGY_WORDS[self.strategy]
        return f"MaxConcurrentTransforms={self.concurrent}, MaxPayloadInMB={self.payload_mb}, BatchStrategy={strategy}"


@dataclass(frozen=True)
class TransformSettings:
    """A request's members, with defaults where AWS has fixed ones."""

    data_type: str
    input_uri: Uri
    content_type: str | None
    is_gzip: bool
    split: str
    output_path: str
    accept: str | None
    assemble_with: str
    instances: int
    timeout_s: float
    retries: int
    concurrent: int | None  # None: the container decides
    payload_mb: int | None
    strategy: str | None
    environment: Mapping[str, str]
    processing: DataProcessing | None = None

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> TransformSettings:
        """Read a request or a stored job.

        Raises:
            StorageError: the input's place is no URI.
            ValueError: a filter cannot be used.
        """
        data, output = request["TransformInput"], request["TransformOutput"]
        source, client = data["DataSource"]["S3DataSource"], request.get("ModelClientConfig") or {}
        return cls(
            data_type=source["S3DataType"],
            input_uri=Uri.parse(source["S3Uri"]),
            content_type=data.get("ContentType") or None,
            is_gzip=data.get("CompressionType") == "Gzip",
            split=data.get("SplitType") or NO_SPLIT,
            output_path=output["S3OutputPath"],
            accept=output.get("Accept") or None,
            assemble_with=output.get("AssembleWith") or "None",
            instances=request["TransformResources"]["InstanceCount"],
            timeout_s=float(client.get("InvocationsTimeoutInSeconds", _TIMEOUT_S)),
            retries=client.get("InvocationsMaxRetries", _RETRIES),
            concurrent=request.get("MaxConcurrentTransforms") or None,
            payload_mb=request.get("MaxPayloadInMB"),
            strategy=request.get("BatchStrategy"),
            environment=request.get("Environment") or {},
            processing=DataProcessing.of(request),
        )

    @property
    def variables(self) -> dict[str, str]:
        """What the container finds in its environment: of the limits only those that the request names."""
        limits = {
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": self.payload_mb,
            "SAGEMAKER_BATCH_STRATEGY": self.strategy and _STRATEGY_WORDS[self.strategy],
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": self.concurrent,
        }
        given = {name: str(value) for name, value in limits.items() if value is not None}
        return {**self.environment, "SAGEMAKER_BATCH": "true", **given}

    @property
    def headers(self) -> dict[str, str]:
        """Of every request to /invocations."""
        named = {"Content-Type": self.content_type, "Accept": self.accept}
        return {name: value for name, value in named.items() if value}

    @property
    def asks_container(self) -> bool:
        """Whether /execution-parameters may decide something."""
        return None in (self.concurrent, self.payload_mb, self.strategy)

    def limits(self, told: Mapping[str, Any]) -> Limits:
        """The request's limits, else the container's own, else AWS's defaults.

        Where both together allow more than 100 MB at once, the one that the request does not name gives way.

        Raises:
            ValueError: what the container says cannot be used.
        """
        payload_mb = self.payload_mb or _number(told, "MaxPayloadInMB", _DEFAULT_PAYLOAD_MB)
        concurrent = self.concurrent or _number(told, "MaxConcurrentTransforms", 1)
        if concurrent * payload_mb > MAX_TOTAL_MB:
            if self.concurrent is None:
                concurrent = max(1, MAX_TOTAL_MB // payload_mb)
            else:
                payload_mb = max(1, MAX_TOTAL_MB // concurrent)
        return Limits(concurrent, payload_mb, self.strategy or _strategy(told))


def _number(told: Mapping[str, Any], name: str, default: int) -> int:
    value = told.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_TOTAL_MB:
        raise ValueError(f"GET /execution-parameters says {name}={value!r}; a number from 1 to {MAX_TOTAL_MB} is meant")
    return value


def _strategy(told: Mapping[str, Any]) -> str:
    value = told.get("BatchStrategy", _STRATEGY_WORDS[MULTI])
    known = {word: name for name, word in _STRATEGY_WORDS.items()} | {SINGLE: SINGLE, MULTI: MULTI}
    if value not in known:
        raise ValueError(f"GET /execution-parameters says BatchStrategy={value!r}; SINGLE_RECORD or MULTI_RECORD are")
    return known[value]


def transform_refusals(request: Mapping[str, Any]) -> list[str]:
    """What is wrong with a CreateTransformJob request, beyond what the model of the API says: a sentence each."""
    return [*_data_refusals(request), *_limit_refusals(request), *processing_refusals(request)]


def _data_refusals(request: Mapping[str, Any]) -> Iterator[str]:
    data = request["TransformInput"]
    source = data["DataSource"]["S3DataSource"]
    for place, text in (
        ("TransformInput.DataSource.S3DataSource.S3Uri", source["S3Uri"]),
        ("TransformOutput.S3OutputPath", request["TransformOutput"]["S3OutputPath"]),
    ):
        try:
            Uri.parse(text)
        except StorageError as error:
            yield f"{place}: {error}"
    if source["S3DataType"] not in _SOURCES:
        yield (
            f"TransformInput.DataSource.S3DataSource.S3DataType {source['S3DataType']} is not for objects of a prefix; "
            f"send {' or '.join(_SOURCES)}"
        )
    if data.get("SplitType") == "TFRecord":
        yield (
            "TransformInput.SplitType TFRecord is not emulated, since only TensorFlow's own containers read it; send "
            "Line, RecordIO or None"
        )


def _limit_refusals(request: Mapping[str, Any]) -> Iterator[str]:
    concurrent, payload_mb = request.get("MaxConcurrentTransforms") or 0, request.get("MaxPayloadInMB")
    if payload_mb == 0:
        yield (
            "MaxPayloadInMB 0, for bodies of any size in chunks, works only with algorithms of AWS's own; send 1 to "
            f"{MAX_TOTAL_MB}, or leave it out for {_DEFAULT_PAYLOAD_MB}"
        )
    if (payload_mb or 1) * max(1, concurrent) > MAX_TOTAL_MB:
        yield (
            f"MaxConcurrentTransforms ({max(1, concurrent)}) times MaxPayloadInMB ({payload_mb or 1}) must not exceed "
            f"{MAX_TOTAL_MB} MB; lower one of them"
        )
    instances = request["TransformResources"]["InstanceCount"]
    if instances > MAX_INSTANCES:
        yield f"TransformResources.InstanceCount is {instances}; this one machine runs {MAX_INSTANCES} at most"
