"""torchvision, without torch's compiler: its detection operators and its transforms would import it."""

from __future__ import annotations

from kennel.classifier.data.compiler import without_compiler

with without_compiler():
    import torchvision
    from torchvision.transforms import v2

__all__ = ["torchvision", "v2"]
