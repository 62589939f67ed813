"""multi-model-server as a child: its settings, its processes, its log, and an end that leaves none of them behind."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import serving
from kennel.contract.errors import ConfigError, KennelError
from serving import logs
from serving.settings import Settings

LOAD_LIMIT_S = 240  # the platform's own limit for a container's start
_PACKAGES = {
    "mms": "multi-model-server",
    "sagemaker_inference": "sagemaker-inference",
    "httpx": "httpx",
    "psutil": "psutil",
}
_INSIDE_MIB = 256  # of Java heap, and more where bodies are large
_LINE_BYTES = 64 * 1024  # of a log line that is passed on in one piece
_SOCKET_PATH_BYTES = 107  # of an address on Linux, without the zero at its end
_NATIVE = "libnetty_transport_native_epoll_{}.so"
_FOREIGN = re.compile("MMS_.*|MODEL_SERVER_HOME|LOG_LOCATION|METRICS_LOCATION")  # variables that configure MMS
_NOISE = re.compile(  # at every start of a worker
    "(attach|terminate)IOStreams|Stopped Scanner|Listening on|.PID. |MMS worker started|model_service_worker started|"
    "Python runtime|Connection accepted|Frontend disconnected|WARNING: sun.reflect"
)
_LOG_LINE = re.compile(r"(TRACE|DEBUG|INFO|WARN|ERROR|FATAL) (\S+) (.*)", re.DOTALL)

# One line an entry, on stdout, which is our pipe; no files. Workers print through WorkerLifeCycle.
_LOG_CONFIG = """\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="error" shutdownHook="disable">
  <Appenders>
    <Console name="pipe" target="SYSTEM_OUT"><PatternLayout pattern="%p %c{1} %m %ex{short.message}%n"/></Console>
  </Appenders>
  <Loggers>
    <Logger name="io.netty" level="error"/>
    <Logger name="com.amazonaws.ml.mms.wlm.WorkerLifeCycle" level="info"/>
    <Root level="warn"><AppenderRef ref="pipe"/></Root>
  </Loggers>
</Configuration>
"""

# Ends the process group that it leads as soon as nobody holds the other end of its stdin, however that came about.
_GUARD = 'read -r _; rm -rf -- "$0"; kill -9 0'


def check_installed() -> None:
    """Return when this front can be started.

    Raises:
        ConfigError: Python packages or Java are missing; all that are missing are named.
    """
    missing = [name for module, name in _PACKAGES.items() if importlib.util.find_spec(module) is None]
    problems = []
    if missing:
        problems.append(
            f"The front 'mms' needs {', '.join(missing)}, which this Python does not have. Install the extra 'mms' "
            "(uv sync --extra mms), or take KENNEL_FRONT=native."
        )
    if _java() is None:
        problems.append(
            "The front 'mms' needs Java 17, and there is no java on PATH or below JAVA_HOME. Install a headless "
            "runtime (Debian: apt-get install openjdk-17-jre-headless), or take KENNEL_FRONT=native."
        )
    if problems:
        raise ConfigError(problems)


class MmsProcess:
    """MMS, its listeners and its workers, in one process group and one private folder.

    It listens on sockets in that folder, which nobody but this user can open. TCP ports on loopback would let every
    program on the machine load code through its management API, which asks for no password.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._java: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._last_lines: deque[str] = deque(maxlen=3)
        self.folder = Path()

    @property
    def inference(self) -> Path:
        """The socket that requests go to."""
        return self.folder / "inference.sock"

    @property
    def management(self) -> Path:
        """The socket that models are loaded by."""
        return self.folder / "management.sock"

    def start(self) -> None:
        """Start Java; it listens a second later.

        Raises:
            ConfigError: it cannot be started from here.
        """
        java = _java()
        assert java  # noqa: S101 `check_installed` was called
        self.folder = Path(tempfile.mkdtemp(prefix="kennel-mms-")).resolve()
        try:
            _check_folder(self.folder)
            (self.folder / "log4j2.xml").write_text(_LOG_CONFIG, encoding="utf-8")
            (self.folder / "config.properties").write_text(_properties(self._values()), encoding="ascii")
            self._spawn(java)
        except BaseException:
            self.close()
            raise

    def _spawn(self, java: str) -> None:
        # The guard leads the group before Java joins it, so there is no moment in which Java could be left alone.
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
        self._java = subprocess.Popen(
            self._command(java),
            cwd=self.folder,
            env=self._environ(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=self._guard.pid,
        )
        assert self._java.stdout  # noqa: S101 it was asked for
        threading.Thread(target=self._read_log, args=(self._java.stdout,), name="mms-log", daemon=True).start()

    def _command(self, java: str) -> list[str]:
        home = _home()
        body_mib = self._settings.max_body_bytes / 1024**2
        heap_mib = max(_INSIDE_MIB, int(128 + 4 * body_mib * 2 * self._settings.workers))
        return [
            java,
            f"-Xmx{heap_mib}m",
            "-Xss512k",
            "-XX:+UseSerialGC",  # one thread; the heap is small, and the cores are the model's
            "-XX:TieredStopAtLevel=1",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Djava.io.tmpdir={self.folder}",
            f"-Dmodel_server_home={home}",
            f"-Dlog4j.configurationFile={(self.folder / 'log4j2.xml').as_uri()}",
            "-cp",
            str(home / "mms" / "frontend" / "*"),
            "com.amazonaws.ml.mms.ModelServer",
            "--python",
            sys.executable,
            "-f",
            str(self.folder / "config.properties"),
        ]

    def _values(self) -> dict[str, Any]:
        """MMS's configuration. The front has bounded requests before; MMS's own limits only stay out of the way."""
        settings = self._settings
        body = settings.max_body_bytes
        return {
            "inference_address": f"unix:{self.inference}",
            "management_address": f"unix:{self.management}",
            "enable_envvars_config": False,  # MMS_MANAGEMENT_ADDRESS would open the management API to the network
            "model_store": self.folder,
            # A worker that is forked from one that has loaded shares its memory and is there in a second. After a GPU
            # or OpenVINO's threads were used, a fork can use neither.
            "preload_model": settings.model.engine == "torch" and not _has_gpu(),
            "default_workers_per_model": 1 if settings.multi_model else settings.workers,
            "default_response_timeout_seconds": max(LOAD_LIMIT_S, 2 * settings.stuck_s),  # counts for loading, too
            "unregister_model_timeout": 10,
            "job_queue_size": 1000,  # more than are ever sent
            "max_request_size": body + 1024**2,
            "max_response_size": max(64 * 1024**2, 8 * body),
            "decode_input_request": False,
            "number_of_netty_threads": 2,
            "netty_client_threads": 2,
            "metric_time_interval": 10**8,  # each would start a Python; /metrics tells more
            **({} if _has_gpu() else {"number_of_gpu": 0}),
        }

    def _environ(self) -> dict[str, str]:
        """Ours, without what MMS would take for its configuration, and with our modules for the workers."""
        inherited = {name: value for name, value in os.environ.items() if not _FOREIGN.fullmatch(name)}
        ours = str(Path(serving.__file__).parents[1])  # holds the packages `serving` and, in the image, `kennel`
        path = os.pathsep.join(filter(None, (ours, os.environ.get("PYTHONPATH"))))
        # More than one OpenMP thread before the fork is a deadlock after it.
        return {**inherited, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def _read_log(self, pipe: IO[bytes]) -> None:
        while line := pipe.readline(_LINE_BYTES):
            self._pass_on(line.decode("utf-8", "replace").rstrip())

    def _pass_on(self, line: str) -> None:
        """A worker's own line as it is; everything else as a line of ours."""
        found = _LOG_LINE.fullmatch(line)
        level, source, text = found.groups() if found else ("INFO", "java", line)
        if source == "WorkerLifeCycle" and text.startswith("{"):
            try:
                logs.relay(json.loads(text))
                return
            except ValueError:  # printed by something else, or longer than one piece
                pass
        if text.strip() and not _NOISE.match(text):
            if not text.lstrip().startswith(("at ", "... ")):  # of a stack trace, its reasons
                self._last_lines.append(text.strip())
            logs.relay({"event": "mms", "level": level, "source": source, "text": text.strip()})

    def ended(self) -> KennelError | None:
        """Why there is no MMS any more; None while it runs."""
        if self._java is None or (status := self._java.poll()) is None:
            return None
        how = f"was killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        said = "".join(f" '{line}'" for line in self._last_lines)
        return KennelError(f"multi-model-server's Java process {how}; its last lines:{said or ' none'}. Start again.")

    def close(self) -> None:
        """Kill all of it at once and delete the folder."""
        if self._guard is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # all of it is dead: Linux, macOS
                os.killpg(self._guard.pid, signal.SIGKILL)
            for process in (self._guard, self._java):
                if process is not None:
                    process.wait()
            self._guard = None
        if self.folder != Path():
            shutil.rmtree(self.folder, ignore_errors=True)


def _java() -> str | None:
    home = os.environ.get("JAVA_HOME")
    return (shutil.which("java", path=str(Path(home) / "bin")) if home else None) or shutil.which("java")


def _home() -> Path:
    """The folder that the package mms is installed in, found without importing it."""
    spec = importlib.util.find_spec("mms")
    assert spec is not None  # noqa: S101 `check_installed` was called
    assert spec.origin is not None  # noqa: S101 it is a package with an __init__.py
    return Path(spec.origin).parents[1]


def _has_gpu() -> bool:
    return Path("/dev/nvidiactl").exists()


def _properties(values: Mapping[str, Any]) -> str:
    """Java's format, in which other letters than ASCII are escaped as in JSON."""
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in values.items()}
    return "".join(f"{name}={json.dumps(text)[1:-1]}\n" for name, text in texts.items())


def _check_folder(folder: Path) -> None:
    """Raises ConfigError when MMS could not listen in it, or not load its library for that."""
    if len(os.fsencode(folder / ".mms.sock.99999")) > _SOCKET_PATH_BYTES:
        raise ConfigError([f"The folder {folder} is too long a name for sockets. Set TMPDIR to a shorter one."])
    machine = {"x86_64": "x86_64", "aarch64": "aarch_64"}.get(platform.machine(), platform.machine())
    installed = Path("/usr/lib", _NATIVE.format(machine)).exists()
    if os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0) and not installed:
        raise ConfigError(
            [
                f"{folder.parent} is mounted noexec, and multi-model-server loads a library from there. Set TMPDIR to "
                "another folder, or mount it with exec."
            ]
        )
