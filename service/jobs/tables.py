"""What is stored. Times are seconds since 1970 by the database's clock; JSON is kept as text, NaN and all."""

from sqlalchemy import BigInteger, Boolean, Column, Double, Index, Integer, LargeBinary, MetaData, String, Table, Text

metadata = MetaData()

files = Table(
    "files",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(128), nullable=False, index=True),
    Column("filename", String(512), nullable=False),
    Column("purpose", String(32), nullable=False),
    Column("status", String(16), nullable=False),  # uploading | processed | error
    Column("bytes", BigInteger, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("urls", Text, nullable=False),  # JSON: url → first line that has it
    Column("problems", Text, nullable=False),  # JSON: list of {code, message, param, line}
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
)
"""An uploaded or written file. Its bytes are in a file of its name, or in `chunks`."""

chunks = Table(
    "chunks",
    metadata,
    Column("file_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
)
"""Bytes of files where replicas share nothing but the database."""

batches = Table(
    "batches",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("owner", String(128), nullable=False),
    Column("endpoint", String(128), nullable=False),
    Column("model", String(512)),  # the served model that may run it; null where none is needed
    Column("status", String(16), nullable=False, index=True),
    Column("input_file_id", String(64), nullable=False),
    Column("output_file_id", String(64)),
    Column("error_file_id", String(64)),
    Column("completion_window", String(16), nullable=False),
    Column("metadata", Text, nullable=False),
    Column("errors", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("in_progress_at", Double),
    Column("expires_at", Double, nullable=False),
    Column("finalizing_at", Double),
    Column("completed_at", Double),
    Column("failed_at", Double),
    Column("expired_at", Double),
    Column("cancelling_at", Double),
    Column("cancelled_at", Double),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("resumed", Integer, nullable=False),
    Column("usage", Text, nullable=False),  # JSON: sums over the finished rows
    Column("read_bytes", BigInteger, nullable=False),  # how far the input file has become rows
    Column("read_lines", Integer, nullable=False),
    Column("last_claim", Double, nullable=False),  # when a row of it was last claimed: whose turn is it
    Column("tended_by", String(64)),
    Column("tended_until", Double),
    Index("batches_of_owner", "owner", "created_at", "id"),
)
"""A batch. `tended_*` is the lease of whoever reads its file or writes its results just now."""

rows = Table(
    "rows",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("custom_id", String(512), nullable=False),
    Column("body", Text, nullable=False),
    Column("state", String(8), nullable=False),  # waiting | running
    Column("worker", String(64)),
    Column("leased_until", Double),
    Column("not_before", Double),  # a row that failed for a passing reason waits a little
    Column("losses", Integer, nullable=False),  # workers lost on it in a row without a finished stage
    Column("failures", Integer, nullable=False),  # times the engine failed on it
    Column("checkpoint", LargeBinary),
    Index("rows_by_state", "state", "batch_id", "number"),
)
"""The rows of a batch that have no result yet, a window of the input file. `number` is the line."""

results = Table(
    "results",
    metadata,
    Column("batch_id", String(64), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("ok", Boolean, nullable=False),
    Column("line", Text, nullable=False),
)
"""Finished rows, until the batch's output and error files are written."""

releases = Table(
    "releases",
    metadata,
    Column("owner", String(128), primary_key=True),
    Column("dataset_id", String(64), primary_key=True),
    Column("release_id", String(128), primary_key=True),
    Column("epsilon", String(64), nullable=False),  # decimal numbers as text: their sum is exact
    Column("delta", String(64), nullable=False),
    Column("digest", String(64), nullable=False),  # of what was asked, but for the rows' values
    Column("created_at", Double, nullable=False),
    Column("reply", LargeBinary),  # null until it is computed; set once
    Column("picture", LargeBinary),
)
"""Private releases: each is a debit from its data set's privacy budget, whether or not it was ever computed."""
