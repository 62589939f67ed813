"""Warm pools as AWS tells of them: what DescribeTrainingJob's WarmPoolStatus says before, during and after a reuse.

Nothing is kept running for a pool: a container of this machine starts in well under a second, warm or not.
Source: SageMaker developer guide, "Train Using SageMaker AI Managed Warm Pools", with the members that must match.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from kennel.emulator.job_status import KIND, Document, life
from kennel.emulator.store import MissingError, Store

_MATCHING = ("RoleArn", "VpcConfig", "EnableInterContainerTrafficEncryption", "EnableNetworkIsolation")
_RESOURCES = ("InstanceType", "InstanceCount", "InstanceGroups", "VolumeSizeInGB", "VolumeKmsKeyId")


def keep_alive_s(document: Mapping[str, Any]) -> int:
    """How long the job's instances are kept after it."""
    return int((document.get("ResourceConfig") or {}).get("KeepAlivePeriodInSeconds") or 0)


def claim(store: Store, name: str) -> None:
    """Give a job that begins an available pool that matches it, if it asks for one and there is one."""
    document = store.get(KIND, name)
    if not keep_alive_s(document):
        return
    expire(store)
    for other in store.all(KIND):
        if _is_available(other) and _key(other) == _key(document) and _take(store, other["TrainingJobName"], name):
            break
    store.update(KIND, name, lambda d: d.update(WarmPoolStatus={"Status": "InUse"}))


def release(document: Document, now: float) -> None:
    """Make the instances of a job that ends available, in its document."""
    if keep_alive_s(document):
        life(document)["pool_since"] = now
        document["WarmPoolStatus"] = {"Status": "Available", "ResourceRetainedBillableTimeInSeconds": 0}


def expire(store: Store) -> None:
    """End every pool whose time is over."""
    now = time.time()
    for document in store.all(KIND):
        if _is_available(document) and now - life(document)["pool_since"] >= keep_alive_s(document):
            _take(store, document["TrainingJobName"], None)


def _is_available(document: Mapping[str, Any]) -> bool:
    return bool((document.get("WarmPoolStatus") or {}).get("Status") == "Available")


def _key(document: Mapping[str, Any]) -> list[Any]:
    resources = document.get("ResourceConfig") or {}
    return [document.get(name) for name in _MATCHING] + [resources.get(name) for name in _RESOURCES]


def _take(store: Store, pool: str, by: str | None) -> bool:
    """End an available pool, for another job or because its time is over; false when somebody was faster."""
    taken = False

    def change(document: Document) -> None:
        nonlocal taken
        if not _is_available(document):
            return
        retained = time.time() - life(document)["pool_since"]
        status = {"Status": "Reused", "ReusedByJob": by} if by else {"Status": "Terminated"}
        seconds = round(min(retained, keep_alive_s(document)))
        document["WarmPoolStatus"] = {**status, "ResourceRetainedBillableTimeInSeconds": seconds}
        taken = True

    try:
        store.update(KIND, pool, change)
    except MissingError:  # deleted meanwhile
        return False
    return taken
