"""torchvision, without torch's compiler.

One of its detection operators imports `torch._dynamo` for a function that it may ask one day, and the compiler brings
triton and sympy: 1.6 s of every start and 140 MB of every process, which serving never needs. While torchvision is
imported, a stand-in offers that one function; afterwards the compiler can be imported as always.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from types import ModuleType

_COMPILER, _ASKED = "torch._dynamo", "torch._dynamo.utils"


@contextlib.contextmanager
def _stand_in() -> Iterator[None]:
    if _COMPILER in sys.modules:
        yield
        return
    package, module = ModuleType(_COMPILER), ModuleType(_ASKED)
    module.is_compile_supported = _no_compiler  # type: ignore[attr-defined]
    sys.modules |= {_COMPILER: package, _ASKED: module}
    try:
        yield
    finally:
        del sys.modules[_COMPILER], sys.modules[_ASKED]


def _no_compiler(_: object) -> bool:
    """The answer with which roi_align computes by its compiled operator, as it does by default."""
    return False


with _stand_in():
    import torchvision

__all__ = ["torchvision"]
