"""The process and its door, over HTTP."""

import http.client
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as Keys
from botocore.exceptions import ClientError

import kennel
from kennel.contract.presence import CHALLENGE_HEADER, holder, is_proven
from tests.emulator.emulator_harness import REGION, Emulator, job_request, running, wait_for, wait_for_status

CREATE = {"X-Amz-Target": "SageMaker.ListTrainingJobs", "Content-Type": "application/x-amz-json-1.1"}


def send(
    emulator: Emulator, body: bytes = b"{}", *, method: str = "POST", path: str = "/", service: str = "sagemaker",
    headers: dict[str, str] | None = None, unsigned: dict[str, str] | None = None, host: str | None = None,
) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
    """A signed request, byte by byte as given; `unsigned` headers come on top."""
    url = f"http://{host or f'127.0.0.1:{emulator.port}'}{path}"
    request = AWSRequest(method, url, headers=dict(CREATE if headers is None else headers), data=body)
    SigV4Auth(Keys(emulator.key.access_key_id, emulator.key.secret_access_key), service, REGION).add_auth(request)
    return raw(emulator, method, path, {**dict(request.headers.items()), **(unsigned or {})}, body, host=host)


def raw(
    emulator: Emulator, method: str, path: str, headers: dict[str, str], body: bytes = b"", *, host: str | None = None
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", emulator.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host=True)
        connection.putheader("Host", host or f"127.0.0.1:{emulator.port}")
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def test_the_health_check_needs_no_key_and_tells_the_version_only(emulator: Emulator) -> None:
    with urllib.request.urlopen(emulator.url + "/", timeout=10) as answer:
        assert json.load(answer) == {"kennel": kennel.__version__}


def test_a_server_that_is_challenged_names_its_home_and_proves_it(emulator: Emulator) -> None:
    challenge = "0f" * 16
    status, _, body = raw(emulator, "GET", "/", {CHALLENGE_HEADER: challenge})
    answer = json.loads(body)
    assert (status, answer["home"], answer["pid"]) == (200, str(emulator.home), emulator.process.pid)
    found = holder(emulator.home / "emulator.lock")
    assert found is not None
    assert found.process is not None
    assert is_proven(answer, challenge, emulator.key.secret_access_key, found.process, emulator.port)
    assert emulator.key.secret_access_key not in body.decode()
    _, _, body = raw(emulator, "GET", "/", {CHALLENGE_HEADER: "AWS4-HMAC-SHA256 anything"})
    assert json.loads(body) == {"kennel": kennel.__version__}
    status, _, _ = raw(emulator, "GET", "/", {CHALLENGE_HEADER: challenge, "Origin": "http://example.com"})
    assert status == 403


def test_the_server_listens_on_loopback_only(emulator: Emulator) -> None:
    listening = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = {row[1].split(":")[0] for row in listening if int(row[1].split(":")[1], 16) == emulator.port
                 and row[3] == "0A"}  # fmt: skip
    assert addresses == {"0100007F"}
    rows = Path("/proc/net/tcp6").read_text().splitlines()[1:]
    assert [row for row in rows if f":{emulator.port:04X} " in row.split()[1] + " " and row.split()[3] == "0A"] == []


def test_a_signed_request_is_answered_and_an_unsigned_one_is_not(emulator: Emulator) -> None:
    assert send(emulator)[0] == 200
    status, _, body = raw(emulator, "POST", "/", CREATE, b"{}")
    assert status == 403
    assert json.loads(body)["__type"] == "MissingAuthenticationTokenException"


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1", "127.0.0.1:1", "0.0.0.0"])
def test_a_rebound_name_is_refused_even_with_the_key(emulator: Emulator, host: str) -> None:
    status, _, body = send(emulator, host=host)
    assert status == 403
    assert json.loads(body)["__type"] == "AccessDeniedException"
    assert raw(emulator, "GET", "/", {}, host=host)[0] == 403


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "[::1]"])
def test_the_names_of_this_machine_are_answered(emulator: Emulator, name: str) -> None:
    assert send(emulator, host=f"{name}:{emulator.port}")[0] == 200


@pytest.mark.parametrize(
    "header", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
def test_a_web_page_is_refused_even_with_the_key(emulator: Emulator, header: dict[str, str]) -> None:
    status, headers, body = send(emulator, unsigned=header)
    assert status == 403
    assert json.loads(body)["__type"] == "AccessDeniedException"
    assert not [name for name in headers if name.startswith("access-control-")]
    assert raw(emulator, "GET", "/", header)[0] == 403
    assert raw(emulator, "OPTIONS", "/", header)[0] == 403


def test_another_secret_another_key_and_an_old_signature_are_refused(emulator: Emulator) -> None:
    answers = {}
    for name, options in {
        "secret": {"aws_secret_access_key": "guess"},
        "key": {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE"},
        "region": {"region_name": "us-west-2"},
    }.items():
        with pytest.raises(ClientError) as caught:
            emulator.client("sagemaker", **options).list_training_jobs()
        answers[name] = caught.value.response["Error"]["Code"]
    assert answers == {
        "secret": "SignatureDoesNotMatch",
        "key": "UnrecognizedClientException",
        "region": "SignatureDoesNotMatch",
    }
    with pytest.raises(ClientError) as caught:
        emulator.client("sts", aws_access_key_id="AKIAIOSFODNN7EXAMPLE").get_caller_identity()
    assert caught.value.response["Error"]["Code"] == "InvalidClientTokenId"


def test_a_key_for_one_service_opens_no_other(emulator: Emulator) -> None:
    status, _, body = send(emulator, service="logs")
    assert status == 403
    assert "scoped to correct service: 'sagemaker'" in json.loads(body)["message"]


def test_a_body_over_its_limit_is_refused_and_the_sender_reads_why(emulator: Emulator) -> None:
    for size, headers, path in (
        (1024 * 1024 + 1, CREATE, "/"),
        (3 * 1024 * 1024, CREATE, "/"),
        (6 * 1024 * 1024 + 1, {}, "/endpoints/e/invocations"),
    ):
        status, _, body = send(emulator, b" " * size, headers=headers, path=path)
        assert status == 413
        assert json.loads(body)["__type"] == "RequestEntityTooLargeException"
    assert send(emulator, b"{}" + b" " * (1024 * 1024 - 2))[0] == 200
    status, _, body = send(emulator, b" " * 6 * 1024 * 1024, headers={}, path="/endpoints/e/invocations")
    assert (status, json.loads(body)["__type"]) == (400, "ValidationError")


def test_a_strangers_body_is_not_read(emulator: Emulator) -> None:
    with socket.create_connection(("127.0.0.1", emulator.port), timeout=10) as connection:
        head = f"POST / HTTP/1.1\r\nHost: 127.0.0.1:{emulator.port}\r\nContent-Length: 1000000\r\n\r\n"
        connection.sendall(head.encode())  # and no body: the answer comes nevertheless
        assert connection.recv(100).startswith(b"HTTP/1.1 403")


@pytest.mark.parametrize(
    ("target", "body", "code"),
    [
        ("SageMaker.ListTrainingJobs", b"{", "SerializationException"),
        ("SageMaker.ListTrainingJobs", b"[1]", "SerializationException"),
        ("SageMaker.ListTrainingJobs", b'{"MaxResults": 101}', "ValidationException"),
        ("SageMaker.MakeCoffee", b"{}", "UnknownOperationException"),
        ("SageMaker.CreateDomain", b"{}", "UnknownOperationException"),
        ("Coffee.Make", b"{}", "UnknownOperationException"),
        ("", b"{}", "UnknownOperationException"),
    ],
)
def test_a_request_that_makes_no_sense_gets_an_error_of_aws(
    emulator: Emulator, target: str, body: bytes, code: str
) -> None:
    status, headers, answer = send(emulator, body, headers={**CREATE, "X-Amz-Target": target})
    assert 400 <= status < 500
    assert json.loads(answer)["__type"] == code
    assert headers["x-amzn-requestid"]


def test_paths_and_methods_that_are_none_are_not_found(emulator: Emulator) -> None:
    for method, path in (
        ("GET", "/x"),
        ("GET", "/../etc/passwd"),
        ("DELETE", "/"),
        ("GET", "/endpoints/e/invocations"),
    ):
        status, _, body = send(emulator, b"", method=method, path=path, headers={})
        assert (status, json.loads(body)["__type"]) == (404, "UnknownOperationException"), path


def test_the_files_of_a_home_are_for_its_owner(emulator: Emulator) -> None:
    for name in ("credentials.json", "state.sqlite", "emulator.log"):
        assert stat.S_IMODE((emulator.home / name).stat().st_mode) == 0o600, name


def test_the_log_has_a_line_for_each_request_and_no_secret(emulator: Emulator) -> None:
    emulator.client("sagemaker").list_models()
    # The line is written after the answer was sent.
    [last] = wait_for(lambda: [line for line in emulator.log() if line.get("operation") == "ListModels"])
    assert (last["event"], last["status"]) == ("request", 200)
    assert last["ms"] < 1000
    assert emulator.key.secret_access_key not in (emulator.home / "emulator.log").read_text()


def test_a_second_server_of_a_home_names_the_first(emulator: Emulator) -> None:
    command = [sys.executable, "-m", "kennel.emulator", "serve", "--home", str(emulator.home)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"by process {emulator.process.pid} on {emulator.url}" in done.stderr
    assert done.stderr.count("\n") == 1
    assert emulator.client("sagemaker").list_models()["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert (emulator.home / "emulator.json").exists()


def test_sigterm_ends_it_cleanly_and_nothing_says_that_it_listens(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with running(home) as server:
        written = json.loads((home / "emulator.json").read_text())
        where = {"port": server.port, "url": server.url, "region": REGION}
        assert written == {"pid": server.process.pid, **where, "runner": "process"}
        idle = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        idle.request("GET", "/")  # a client that keeps its connection does not hold the server up
        idle.getresponse().read()
        start = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - start < 5
        idle.close()
        assert not (home / "emulator.json").exists()
        assert server.log()[-1]["event"] == "stopped"


def test_a_home_survives_a_kill_with_its_key_and_its_state(tmp_path: Path) -> None:
    with running(tmp_path / "home") as server:
        server.client("sagemaker").create_model(ModelName="m", PrimaryContainer={"Image": "kennel-serve"})
        key = server.key
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        assert (tmp_path / "home/emulator.json").exists()
    with running(tmp_path / "home") as server:
        assert server.key == key
        assert server.client("sagemaker").describe_model(ModelName="m")["ModelName"] == "m"


def test_a_job_goes_on_without_the_server_and_is_found_again(tmp_path: Path) -> None:
    request = job_request("long", tmp_path, HyperParameters={"sleep_s": "4"})
    with running(tmp_path / "home") as server:
        client = server.client("sagemaker")
        client.create_training_job(**request)
        wait_for_status(client, "long", "InProgress")
        server.stop(signal.SIGKILL)
    with running(tmp_path / "home") as server:
        done = wait_for_status(server.client("sagemaker"), "long", "Completed", "Failed")
        assert done["TrainingJobStatus"] == "Completed", done.get("FailureReason")


def test_a_taken_port_and_a_readable_key_are_told_in_one_sentence(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "kennel.emulator", "serve", "--runner", "process"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ["--home", str(tmp_path / "a"), "--port", port]
        done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert f"Cannot listen on 127.0.0.1, port {port}" in done.stderr
    (tmp_path / "b").mkdir()
    (tmp_path / "b/credentials.json").write_text("{}")
    (tmp_path / "b/credentials.json").chmod(0o644)
    environ = {**os.environ, "KENNEL_HOME": str(tmp_path / "b")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Run: chmod 600" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_answer_does_not_wait_for_an_acknowledgement(emulator: Emulator) -> None:
    client = emulator.client("sagemaker")
    client.list_models()
    took_s = []
    for _ in range(20):
        start = time.perf_counter()
        client.list_models()
        took_s.append(time.perf_counter() - start)
    assert min(took_s) < 0.03, "40 ms are Nagle's algorithm"


def test_many_clients_at_once_create_each_job_once(emulator: Emulator) -> None:
    from concurrent.futures import ThreadPoolExecutor

    client = emulator.client("sagemaker", config=Config(retries={"max_attempts": 1}, max_pool_connections=16))

    def create(number: int) -> str:
        try:
            client.create_model(ModelName=f"twice-{number % 8}", PrimaryContainer={"Image": "kennel-serve"})
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "created"

    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(create, range(32)))
    assert sorted(answers) == ["ValidationException"] * 24 + ["created"] * 8


def test_a_spot_interruption_is_one_command_and_the_job_starts_again(emulator: Emulator, tmp_path: Path) -> None:
    request = job_request("spot", tmp_path, EnableManagedSpotTraining=True, HyperParameters={"sleep_s": "5"})
    request["StoppingCondition"]["MaxWaitTimeInSeconds"] = 1200
    client = emulator.client("sagemaker")
    client.create_training_job(**request)
    wait_for(lambda: "Training" in statuses_of(client, "spot"))
    command = [sys.executable, "-m", "kennel.emulator", "interrupt", "--home", str(emulator.home)]
    told = subprocess.run([*command, "spot"], check=True, timeout=60, capture_output=True, text=True)
    assert told.stderr == "The instances of 'spot' are taken away; it starts again from its checkpoints.\n"
    wait_for(lambda: "Interrupted" in statuses_of(client, "spot"))
    assert wait_for_status(client, "spot", "Completed", "Failed")["TrainingJobStatus"] == "Completed"
    client.create_training_job(**job_request("plain", tmp_path, HyperParameters={"sleep_s": "600"}))
    refused = {
        "none": "There is no training job 'none'",
        "spot": "The training job 'spot' has ended (Completed)",
        "plain": "The training job 'plain' has no spot instances",
    }
    for name, reason in refused.items():
        done = subprocess.run([*command, name], capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert reason in done.stderr
    client.stop_training_job(TrainingJobName="plain")


def statuses_of(client: Any, name: str) -> list[str]:
    job = client.describe_training_job(TrainingJobName=name)
    return [one["Status"] for one in job["SecondaryStatusTransitions"]]
