"""The `deliver:` of a spec: other systems that get the live rows."""

import hashlib
import json
import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from penstock.object_urls import is_remote, parse_url
from penstock.spec.parts import Column, ConnectionName, Identifier, Part, SchemaName, UtcDatetime, twin_names
from penstock.spec.steps import SqlExpression
from penstock.spec.target_path import TargetPath, check_place, lower_scheme

TargetName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]*$", max_length=40)]


class TargetSpec(Part):
    """Keys that all kinds of targets have."""

    DEFINING: ClassVar[frozenset[str]] = frozenset({"where"})
    """Keys on which the content of a delivery depends. If one changes, an open delivery is planned anew."""

    name: TargetName = Field(examples=["crm"])
    """Name of the target. The ledger knows the target by it, so another name is another target, which has no rows."""
    where: SqlExpression | None = Field(default=None, examples=["decision = 'block'"])
    """Deliver only rows for which this condition is true. It may use the columns that are stored with the scores."""
    start: UtcDatetime | None = Field(default=None, examples=["2026-03-01T00:00:00Z"])
    """Deliver only intervals that begin at this time or later. Without it all live intervals are delivered. It needs
    `interval`."""

    @property
    def batch_rows(self) -> int | None:
        """Most rows of a batch. None: the target takes an interval as a whole."""
        return None

    @property
    def place(self) -> str | None:
        """The folder that no other target may have. None: others may deliver to the same system."""
        return None

    @property
    def names_interval(self) -> bool:
        """Whether the place of the rows depends on their interval."""
        return False

    @property
    def place_digest(self) -> str:
        """A digest of where the rows are. A target that has rows keeps it, because nobody would remove them there."""
        text = json.dumps(self._placing, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    @property
    def _placing(self) -> dict[str, Any]:
        """What says where the rows are."""
        return self.model_dump(mode="json", include={"kind"})


class ColumnsSpec(TargetSpec):
    """Keys of targets that get columns as they are."""

    DEFINING: ClassVar[frozenset[str]] = TargetSpec.DEFINING | {"columns"}

    columns: tuple[Column, ...] = Field(default=(), examples=[["score", "decision"]])
    """Columns that are delivered beside the key. Without it all that are stored with the scores. A private
    column of the key is delivered as its keyed hash."""


class HttpDelivery(ColumnsSpec):
    """A receiver that gets the live rows by POST, in batches of JSON."""

    DEFINING: ClassVar[frozenset[str]] = ColumnsSpec.DEFINING | {"rows"}

    kind: Literal["http"] = Field(examples=["http"])
    """Kind of the target."""
    url: str = Field(min_length=1, max_length=2000, examples=["crm", "https://crm.example.com/scores"])
    """Name of a connection whose value is the address of the receiver, or the address itself. The value of a connection
    may be in a Prefect block: `block:secret/crm`. Redirects are not followed."""
    secret: ConnectionName | None = Field(default=None, examples=["crm_secret"])
    """Name of a connection whose value is the secret that signs each request. It has at least 16 characters."""
    token: ConnectionName | None = Field(default=None, examples=["crm_token"])
    """Name of a connection whose value is sent as bearer token."""
    rows: int = Field(default=500, ge=1, le=10_000, examples=[500])
    """Most rows of one request."""
    seconds: float = Field(default=30, gt=0, le=300, allow_inf_nan=False, examples=[10])
    """How long the receiver may be silent during one request."""
    private_address: bool = Field(default=False, examples=[True])
    """Whether the receiver may have an address of this machine or of a private network, and be without TLS."""

    @property
    def batch_rows(self) -> int:
        return self.rows

    @field_validator("url")
    @classmethod
    def _is_an_address_or_a_connection(cls, value: str) -> str:
        if "@" in value:
            raise ValueError("an address in a spec has no user and no password; use `token`, or name a connection")
        if "#" in value:
            raise ValueError(
                "an address has no fragment, for a receiver would not get it; leave `#` and what follows out"
            )
        return value


class MergeDelivery(TargetSpec):
    """A table of another database, in which columns of the rows with the same keys are set."""

    DEFINING: ClassVar[frozenset[str]] = TargetSpec.DEFINING | {"on", "set"}
    MOST_ROWS: ClassVar[int] = 10_000
    """Most rows of one transaction."""

    kind: Literal["merge"] = Field(examples=["merge"])
    """Kind of the target."""
    connection: ConnectionName = Field(examples=["crm"])
    """Name of the connection to the database, which may be the warehouse. Its URL is in the setting
    `PENSTOCK_CONNECTIONS__<NAME>`."""
    table: Identifier = Field(examples=["customers"])
    """Table whose columns are set, spelled as in the database."""
    schema_: SchemaName | None = Field(default=None, alias="schema", examples=["sales"])
    """Schema of the table. Without it the table is in the default schema of the connection."""
    on: Annotated[tuple[Column, ...], Field(min_length=1)] | Annotated[dict[Column, Column], Field(min_length=1)] = (
        Field(examples=[["customer_id"], {"Customer ID": "customer_id"}])
    )
    """The columns of the pipeline's key, all of them. Where the table has other names for them, write
    `{<column of the table>: <column of the key>}`."""
    set: Annotated[dict[Column, Column], Field(min_length=1, max_length=32)] = Field(examples=[{"risk": "score"}])
    """What is written into which column: `{<column of the table>: <column that is stored with the scores>}`. Rows that
    the table does not have are counted, not inserted. A row that is live no more leaves NULL."""

    @property
    def matched(self) -> dict[str, str]:
        """The column of the key by the table's column."""
        return self.on if isinstance(self.on, dict) else {column: column for column in self.on}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that are delivered beside the key."""
        return tuple(dict.fromkeys(self.set.values()))

    @property
    def _placing(self) -> dict[str, Any]:
        return {"kind": self.kind, "connection": self.connection, "schema": self.schema_, "table": self.table}

    @property
    def batch_rows(self) -> int:
        return self.MOST_ROWS

    @model_validator(mode="after")
    def _names_each_column_once(self) -> Self:
        if doubled := twin_names((*self.matched, *self.set)):
            raise ValueError(f"`on` and `set` name the column `{doubled[0]}` of the table twice; name it once")
        if doubled := twin_names(self.matched.values()):
            raise ValueError(f"`on` names the column `{doubled[0]}` of the key twice; name it once")
        return self


class PlacedDelivery(ColumnsSpec):
    """Keys of targets in a folder or an object store."""

    DEFINING: ClassVar[frozenset[str]] = ColumnsSpec.DEFINING | {"kind", "path"}

    connection: ConnectionName | None = Field(default=None, examples=["lake"])
    """Name of the connection with the options of an object store, in the setting `PENSTOCK_CONNECTIONS__<NAME>`.
    Without it they are read from the variables of the store's own tools."""

    @property
    def _placing(self) -> dict[str, Any]:
        said = self.model_dump(mode="json", include={"kind", "path", "connection"})
        return {**said, "path": said["path"].removeprefix("./").rstrip("/")}

    @model_validator(mode="after")
    def _a_connection_is_of_a_store(self) -> Self:
        if self.connection is not None and not is_remote(self.place or ""):
            raise ValueError("`connection` is for a path in an object store, as in `s3://bucket/…`")
        return self


class FileDelivery(PlacedDelivery):
    """Files in a folder or an object store: those of the live run of each interval, and a pointer that names them."""

    kind: Literal["parquet", "csv"] = Field(examples=["parquet"])
    """Kind of the target, which is the format of its files."""
    path: str = Field(
        min_length=1, max_length=1000, examples=["s3://lake/scores/{interval_start:%Y-%m-%d}/{run_id}", "out/{run_id}"]
    )
    """Folder of the files of a run: a local one, or `s3://`, `gs://` or `az://`. It has `{run_id}`, and may have
    `{interval_start:…}` and `{interval_end:…}` with a format of `%Y`, `%m`, `%d`, `%H`, `%M`, `%S` and `%j`, in the
    zone of the interval. The pointers are in `_live`, in the folder before the first field."""

    @property
    def place(self) -> str:
        return self.template.root

    @property
    def names_interval(self) -> bool:
        return self.template.names_interval

    @property
    def template(self) -> TargetPath:
        """The path and its fields."""
        return TargetPath(self.path)

    @field_validator("path")
    @classmethod
    def _has_known_fields(cls, value: str) -> str:
        TargetPath(value).check()
        return lower_scheme(value)


class DeltaDelivery(PlacedDelivery):
    """A Delta table with the live rows of all intervals. Needs Penstock's extra `delta`."""

    kind: Literal["delta"] = Field(examples=["delta"])
    """Kind of the target."""
    path: str = Field(min_length=1, max_length=1000, examples=["s3://lake/order_scores", "lake/order_scores"])
    """Folder of the table: a local one, or `s3://`. It is empty or missing before the first delivery, which makes the
    table."""

    @property
    def place(self) -> str:
        return self.path.rstrip("/")

    @field_validator("path")
    @classmethod
    def _is_a_folder(cls, value: str) -> str:
        check_place(value)
        if re.search(r"[{}]", value):
            raise ValueError("the path of a Delta table has no fields, because the table has all intervals")
        if is_remote(value) and (parse_url(value).scheme != "s3" or not parse_url(value).key.strip("/")):
            raise ValueError("a Delta table is in a local folder, or in one of `s3://bucket/…`")
        return lower_scheme(value)


AnyTarget = Annotated[HttpDelivery | FileDelivery | DeltaDelivery | MergeDelivery, Field(discriminator="kind")]
