"""The server of the HTTP tests, for what must be true of it."""

from tests.service.conftest import server, table_file

__all__ = ["server", "table_file"]
