"""Filters and joins of transform jobs: InputFilter, JoinSource, OutputFilter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.emulator.emulator_harness import Emulator
from tests.emulator.transform.transform_harness import job_request, run, write

LINES = {"ContentType": "application/jsonlines", "SplitType": "Line"}
ROWS = {"ContentType": "text/csv", "SplitType": "Line"}
ECHO = {"MY_ECHO": "1"}


def processed(name: str, folder: Path, data: dict[str, str], changes: dict[str, Any], **filters: str) -> dict[str, Any]:
    output = {"Accept": data["ContentType"], "AssembleWith": "Line"}
    return job_request(name, folder, data=data, output=output, DataProcessing=filters, **changes)


def result(emulator: Emulator, request: dict[str, Any], folder: Path, name: str) -> list[str]:
    found = run(emulator, request)
    assert found["TransformJobStatus"] == "Completed", found
    return (folder / f"output/{name}.out").read_text().splitlines()


@pytest.mark.parametrize("strategy", ["SingleRecord", "MultiRecord"])
def test_json_lines_are_filtered_joined_and_filtered(emulator: Emulator, tmp_path: Path, strategy: str):
    records = [{"id": number, "photo": {"url": f"é{number}"}, "more": [number]} for number in range(5)]
    write(tmp_path, a_jsonl="\n".join(map(json.dumps, records)) + "\n")
    filters = {"InputFilter": "$.photo", "JoinSource": "Input", "OutputFilter": "$['id','SageMakerOutput']"}
    request = processed(f"lines-{strategy}", tmp_path, LINES, {"BatchStrategy": strategy}, **filters)
    lines = [json.loads(line) for line in result(emulator, request, tmp_path, "a.jsonl")]
    assert [one["id"] for one in lines] == list(range(5))
    sent = [one["SageMakerOutput"]["line"].encode("latin-1").decode() for one in lines]
    assert sent == [f'{{"url":"é{number}"}}' for number in range(5)]


def test_a_record_that_is_no_object_goes_under_a_name_of_its_own(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_jsonl='[1, 2]\n{"b": 1}')
    request = processed("names", tmp_path, LINES, {}, JoinSource="Input")
    assert [json.loads(line) for line in result(emulator, request, tmp_path, "a.jsonl")] == [
        {"SageMakerInput": [1, 2], "SageMakerOutput": {"line": "[1, 2]"}},
        {"b": 1, "SageMakerOutput": {"line": '{"b": 1}'}},
    ]


def test_a_json_object_is_one_record(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_json=json.dumps({"rows": [{"x": 1}, {"x": 2}], "id": "i"}))
    data = {"ContentType": "application/json"}
    filters = {"InputFilter": "$.rows[*].x", "OutputFilter": "$['id','SageMakerOutput']", "JoinSource": "Input"}
    output = {"Accept": "application/json"}
    request = job_request("whole", tmp_path, data=data, output=output, DataProcessing=filters)
    assert [json.loads(line) for line in result(emulator, request, tmp_path, "a.json")] == [
        {"id": "i", "SageMakerOutput": {"line": "[1,2]"}}
    ]


def test_rows_of_csv_are_lists_of_columns(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_csv='7,"a, b",x\r\n8,"say ""hi""",y\r\n')
    changes = {"Environment": ECHO, "BatchStrategy": "MultiRecord"}
    joined = processed("rows", tmp_path, ROWS, changes, InputFilter="$[1:]", JoinSource="Input")
    assert result(emulator, joined, tmp_path, "a.csv") == [
        '7,"a, b",x,"a, b",x',
        '8,"say ""hi""",y,"say ""hi""",y',
    ]
    chosen = processed("few", tmp_path, ROWS, changes, JoinSource="Input", OutputFilter="$[0,-1]")
    assert result(emulator, chosen, tmp_path, "a.csv") == ["7,x", "8,y"]
    answers = processed("answers", tmp_path, ROWS, changes, OutputFilter="$[2]")
    assert result(emulator, answers, tmp_path, "a.csv") == ["x", "y"]


@pytest.mark.parametrize(
    ("content", "filters", "sentence"),
    [
        ('{"a": 1}\nno json', {"JoinSource": "Input"}, "ClientError: 'a.jsonl': the input cannot be read as"),
        ('{"a": 1}', {"InputFilter": "$.b"}, "ClientError: 'a.jsonl': InputFilter '$.b': there is no 'b'"),
        ('{"a": 1}', {"OutputFilter": "$[3]"}, "OutputFilter '$[3]': there is no list"),
    ],
)
def test_a_record_that_cannot_be_processed_fails_its_object(
    emulator: Emulator, tmp_path: Path, content: str, filters: dict[str, str], sentence: str
):
    write(tmp_path, a_jsonl=content)
    name = f"bad-{len(sentence)}-{len(content)}"
    found = run(emulator, processed(name, tmp_path, LINES, {}, **filters))
    assert found["TransformJobStatus"] == "Failed"
    assert sentence in found["FailureReason"]


def test_answers_that_are_not_one_for_each_record_are_told(emulator: Emulator, tmp_path: Path):
    write(tmp_path, a_csv="1,2\n3,4")
    changes = {"Environment": {"MY_ECHO": "1", "MY_LAST": "1"}, "BatchStrategy": "MultiRecord"}
    found = run(emulator, processed("count", tmp_path, ROWS, changes, JoinSource="Input"))
    assert "answered 2 records with 1, so they cannot be joined" in found["FailureReason"]


@pytest.mark.parametrize(
    ("data", "filters", "sentence"),
    [
        (LINES, {"InputFilter": "$..x"}, "DataProcessing.InputFilter: '$..x' has something"),
        (LINES, {"OutputFilter": "$[1:3]"}, "DataProcessing.OutputFilter: '$[1:3]' has a slice with an end"),
        (ROWS, {"InputFilter": "$.x"}, "'$.x' names members, but a row of text/csv has numbers only"),
        ({"ContentType": "text/csv"}, {"JoinSource": "Input"}, "needs TransformInput.SplitType and"),
        ({"ContentType": "image/jpeg"}, {"JoinSource": "Input"}, "needs the same TransformInput.ContentType"),
    ],
)
def test_what_cannot_be_processed_is_refused(
    emulator: Emulator, tmp_path: Path, data: dict[str, str], filters: dict[str, str], sentence: str
):
    with pytest.raises(ClientError) as caught:
        emulator.client("sagemaker").create_transform_job(**processed("no", tmp_path, data, {}, **filters))
    assert caught.value.response["Error"]["Code"] == "ValidationException"
    assert sentence in caught.value.response["Error"]["Message"]
