"""Puts the library by which multi-model-server listens on sockets into a folder where Java looks for such.

It would otherwise unpack it into /tmp at every start, from where it cannot be loaded if that is mounted noexec.
"""

import platform
import sys
import zipfile
from importlib.resources import files
from pathlib import Path

folder = Path(sys.argv[1])
machine = {"x86_64": "x86_64", "aarch64": "aarch_64"}[platform.machine()]
name = f"libnetty_transport_native_epoll_{machine}.so"
folder.mkdir(parents=True, exist_ok=True)
with zipfile.ZipFile(str(files("mms") / "frontend/model-server.jar")) as jar:
    (folder / name).write_bytes(jar.read(f"META-INF/native/{name}"))
