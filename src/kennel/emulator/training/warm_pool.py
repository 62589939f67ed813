"""Warm pools: which job may take over what another one left, and what DescribeTrainingJob's WarmPoolStatus says of it.

What waits in a pool is the business of standbys.py. A job with KeepAlivePeriodInSeconds leaves a pool of its own name
when it ends, however it ends, unless the fault was the emulator's; the next one that matches takes it. A pool whose
instances are this machine is there whether somebody waits in it or not: where nobody can, the job's warnings say why.

The trials of a tuning job have no such status, but follow one another even faster: whoever makes their documents gives
them the member `_warm_pool`, {"name": a name that all share, "seconds": how long to wait for the next}. Each then takes
what waits under that name, and has its own successor started while it runs.

Sources: SageMaker developer guide, "SageMaker AI Managed Warm Pools", with the members that must match; API reference,
WarmPoolStatus.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from kennel.emulator.documents.training import KIND, life, living
from kennel.emulator.state.store import Document, MissingError, Store

SHARED = "_warm_pool"  # a private member of a document: the pool of many jobs that follow one another
STATUS = "WarmPoolStatus.Status"
_MATCHING = ("RoleArn", "VpcConfig", "EnableInterContainerTrafficEncryption", "EnableNetworkIsolation")
_RESOURCES = ("InstanceType", "InstanceCount", "InstanceGroups", "VolumeSizeInGB", "VolumeKmsKeyId")


def keep_alive_s(document: Mapping[str, Any]) -> int:
    """How long the job's instances are kept after it."""
    return int((document.get("ResourceConfig") or {}).get("KeepAlivePeriodInSeconds") or 0)


def claim(store: Store, name: str) -> str | None:
    """The pool that a job which begins gets, if it asks for one and there is one: that of all, or one that matches."""
    document = store.get(KIND, name)
    if document.get(SHARED):
        return str(document[SHARED]["name"])
    if not keep_alive_s(document):
        return None
    expire(store)
    claimed = None
    for other in store.having(KIND, STATUS, "Available"):
        if _key(other) == _key(document) and _take(store, other["TrainingJobName"], name):
            claimed = str(other["TrainingJobName"])
            break
    store.update(KIND, name, lambda d: d.update(WarmPoolStatus={"Status": "InUse"}))
    return claimed


def release(document: Document, now: float, *, lost: bool = False) -> None:
    """Make the instances of a job that ends available, in its document; not those that a fault of ours has lost."""
    if keep_alive_s(document):
        with living(document) as known:
            known.pool_since = now
        status = "Terminated" if lost else "Available"
        document["WarmPoolStatus"] = {"Status": status, "ResourceRetainedBillableTimeInSeconds": 0}


def expire(store: Store) -> None:
    """End every pool whose time is over."""
    now = time.time()
    for document in store.having(KIND, STATUS, "Available"):
        if now - (life(document).pool_since or 0) >= keep_alive_s(document):
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
        retained = time.time() - (life(document).pool_since or 0)
        status = {"Status": "Reused", "ReusedByJob": by} if by else {"Status": "Terminated"}
        seconds = round(min(retained, keep_alive_s(document)))
        document["WarmPoolStatus"] = {**status, "ResourceRetainedBillableTimeInSeconds": seconds}
        taken = True

    try:
        store.update(KIND, pool, change)
    except MissingError:  # deleted meanwhile
        return False
    return taken
