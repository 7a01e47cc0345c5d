"""The published form of an upload and the one that is taken are the same."""

import pytest

from service.api.files import EXPIRES_S, FORM, check_form
from service.errors import ApiError
from service.jobs.upload import Form

SCHEMA = FORM["content"]["multipart/form-data"]["schema"]
FIELDS = {"purpose": "batch", "expires_after[anchor]": "created_at", "expires_after[seconds]": str(EXPIRES_S[0])}


def form(fields: dict[str, str]) -> Form:
    """An upload with these fields beside its file."""
    made = Form()
    made.filename = "rows.jsonl"
    made.fields.update(fields)
    return made


def test_the_schema_lists_every_field_that_is_taken_and_refuses_others() -> None:
    assert check_form(form(FIELDS)) == EXPIRES_S[0]
    assert SCHEMA["properties"].keys() == FIELDS.keys() | {"file"}
    assert SCHEMA["additionalProperties"] is False
    with pytest.raises(ApiError):
        check_form(form(FIELDS | {"other": "1"}))
