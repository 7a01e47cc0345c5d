"""Where Serve listens is where the command has been told, or the command does not start."""

import pytest

from sampler.errors import InvalidParams
from service.replicas.command import refuse_other_door
from service.settings import Settings


@pytest.mark.parametrize(
    ("host", "port", "field"),
    [("0.0.0.0", 8000, "host"), ("127.0.0.1", 9000, "port"), ("0.0.0.0", 9000, "host"), (None, 8000, "host")],
)
def test_a_serve_that_listens_elsewhere_is_refused_by_its_address(host: str | None, port: int, field: str) -> None:
    with pytest.raises(InvalidParams, match=rf"--host {host} --port {port}") as refused:
        refuse_other_door(Settings(host="127.0.0.1", port=8000), host, port)
    assert refused.value.field == field


def test_one_that_listens_there_is_used() -> None:
    refuse_other_door(Settings(host="127.0.0.1", port=8000), "127.0.0.1", 8000)
