"""Parts of torch without torch's compiler.

The compiler (`torch._dynamo`, `torch._inductor`) brings triton and sympy: 1.6 s of every start and 140 MB of every
process. Parts of torch that do not compile import it all the same, to mark a function or to ask for a setting. While
they do, a stand-in answers; afterwards the compiler can be imported as always, as `compile=on` does.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any, TypeVar

_F = TypeVar("_F")


def _as_it_is(function: _F, *_: object, **__: object) -> _F:
    """`torch._dynamo.disable`: the function, which Kennel has in no network that it compiles."""
    return function


def _no(_: object) -> bool:
    """`torch._dynamo.utils.is_compile_supported`: with this answer roi_align computes as it does by default."""
    return False


def _module(name: str, **members: Any) -> dict[str, ModuleType]:
    made = ModuleType(name)
    vars(made).update(members)
    return {name: made}


def _stand_ins() -> dict[str, ModuleType]:
    config = _module("torch._inductor.config", triton=SimpleNamespace(cudagraphs=False))  # torch.profiler asks
    return (
        _module("torch._dynamo", disable=_as_it_is)
        | _module("torch._dynamo.utils", is_compile_supported=_no)
        | _module("torch._inductor", config=config["torch._inductor.config"])
        | config
    )


@contextlib.contextmanager
def without_compiler() -> Iterator[None]:
    """Run a block in which torch's compiler is not imported; no change where it was imported before."""
    made = {} if {"torch._dynamo", "torch._inductor"} & set(sys.modules) else _stand_ins()
    sys.modules |= made
    try:
        yield
    finally:
        for name in made:
            del sys.modules[name]
