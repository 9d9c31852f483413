"""Teaches Schemathesis bodies with one JSON document a line, and what a path cannot have."""

import json
from urllib.parse import unquote

import schemathesis

LINES = "application/x-ndjson"


@schemathesis.serializer(LINES)
def write_lines(_, value):
    """A body of a single line: the schema is that of a line."""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else json.dumps(value).encode() + b"\n"


@schemathesis.deserializer(LINES)
def read_lines(_, response):
    """The last line stands for the answer; that each is as documented is a matter of contract_test.go."""
    lines = response.content.decode().strip().split("\n")
    return json.loads(lines[-1])


@schemathesis.hook
def before_call(_, case, __):
    """An ID of dots, as a link from an answer may have one, is no segment of a path: clients take it out, and ask another route."""
    for name, value in (case.path_parameters or {}).items():
        if unquote(str(value)) in (".", ".."):
            case.path_parameters[name] = "-"
