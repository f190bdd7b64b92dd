"""Postgres: a server whose connections can share a snapshot, and which shows its open transactions."""

import re
import secrets
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, REGCLASS
from sqlalchemy.engine import URL

from penstock.database.dialects import base
from penstock.database.dialects.base import BUSY_SECONDS, Element, SqlDialect, TableFacts, Type, as_text
from penstock.database.dialects.postgresql_types import base_type, is_ordered, readable, type_of_oid
from penstock.errors import HorizonHidden
from penstock.run_types import PLACES, Horizon, TablePlaces
from penstock.wording import plural

READER = "penstock reader"
"""The application name of a session that reads under a snapshot. It cannot write, so `settle` need not wait for it."""
READ_ONLY = (
    "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY",
    f"SET LOCAL application_name = '{READER}'",
)
"""The first statements of a read-only transaction that sees one moment."""
_NOTICE_LOST_CLIENT = (
    "-c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=3 -c tcp_user_timeout=30000",
)
"""Let the server end the session of a host that is gone, whose locks would stop the next try of its partition."""
_TIMEOUTS = ("idle_in_transaction_session_timeout", "transaction_timeout")
"""Settings that would end the idle exporting transaction. The second is new in Postgres 17."""
_LIFT = sa.text("select set_config(name, '0', true) from pg_settings where name = any(:names)")
_BEGINNING = datetime.min.replace(tzinfo=UTC)
_SIGHT = sa.text("select pg_is_in_recovery(), pg_has_role(current_user, 'pg_read_all_stats', 'usage'), current_user")
_SESSIONS = sa.text(
    """
    select pid, usename, application_name, xact_start from pg_stat_activity
    where datname = current_database() and pid <> pg_backend_pid() and xact_start is not null
      and backend_type not in ('autovacuum worker', 'parallel worker', 'walsender') and application_name <> :reader
    order by xact_start
    """
)
_PREPARED = sa.text("select gid, owner, prepared from pg_prepared_xacts where database = current_database() order by 3")
_DATABASE = sa.text("select oid || ' ' || datname from pg_database where datname = current_database()")
_MAY_READ_SYSTEM = sa.text("select has_function_privilege('pg_control_system()', 'execute')")
_SYSTEM = sa.text("select system_identifier::text from pg_control_system()")
_GRANTS = sa.text(
    "select format('GRANT %s ON %s TO %s%s', a.privilege_type, c.oid::regclass, "
    "case when a.grantee = 0 then 'PUBLIC' else quote_ident(pg_get_userbyid(a.grantee)) end, "
    "case when a.is_grantable then ' WITH GRANT OPTION' else '' end) "
    "from pg_class c, aclexplode(c.relacl) a where c.oid = to_regclass(:view) and a.grantee <> c.relowner"
)

_FACTS = sa.text(
    """
    select c.relkind = 'p' or exists (
        select from pg_index i join pg_class ic on ic.oid = i.indexrelid join pg_am m on m.oid = ic.relam
        join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
        where i.indrelid = c.oid and i.indisvalid and i.indpred is null and m.amname in ('btree', 'brin')
          and a.attname = :time
      ) as has_time_index,
      array(
        select json_agg(a.attname) from pg_index i
        join pg_attribute a on a.attrelid = c.oid and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
        where i.indrelid = c.oid and i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null
          and (c.relkind = 'p' or not c.relhassubclass)
        group by i.indexrelid
      ) as unique_columns,
      c.relkind = 'r' and not c.relhassubclass and am.amname = 'heap' and has_table_privilege(c.oid, 'select')
        and current_setting('server_version_num')::int >= 140000 as has_places,
      coalesce((
        select abs(s.correlation) < 0.5 from pg_stats s join pg_namespace n on n.nspname = s.schemaname
        where n.oid = c.relnamespace and s.tablename = c.relname and s.attname = :time and not s.inherited
      ), false) as is_scattered,
      pg_relation_filenode(c.oid)::bigint as file,
      case when c.relkind in ('r', 'm') then
        pg_relation_size(c.oid) / current_setting('block_size')::bigint else 0 end as blocks
    from pg_class c left join pg_am am on am.oid = c.relam
    where c.oid = to_regclass(:table) and c.relkind in ('r', 'p', 'm')
    """
)
"""Only a partitioned table's unique index covers its children."""


class PostgresqlDialect(SqlDialect):
    names = ("postgresql",)
    is_warehouse = is_tested = takes_merges = True
    driver = "psycopg"
    modules = ("adbc_driver_manager", "psycopg")
    shares_snapshots = has_server_clock = True
    bulk = "adbc"
    writes_zones = compares_zones = True
    time_types = "named"
    has_infinite_times = True
    case_sensitive_tables = True
    alters_types = True
    replaces_views = True
    has_partial_indexes = True
    row_address = "ctid"

    lost_snapshot_words = re.compile(r"invalid snapshot identifier|snapshot .* does not exist")
    standby_words = re.compile(r"due to conflict with recovery")

    def make_engine(self, url: URL, statement_seconds: int) -> sa.Engine:
        from penstock.database.timeouts import connect_bounded  # a late import, because it imports psycopg

        longest, answer_seconds = statement_seconds * 1000, statement_seconds + base.ANSWER_SECONDS
        defaults = {
            "connect_timeout": "10",
            "application_name": "penstock",
            "keepalives_idle": "30",
            "keepalives_interval": "10",
            "keepalives_count": "3",
            "tcp_user_timeout": "60000",
        }
        url = url.update_query_dict({k: v for k, v in defaults.items() if k not in url.query})
        given = url.query.get("options", ())
        options = (
            f"-c statement_timeout={longest} -c lock_timeout={BUSY_SECONDS * 1000}",
            f"-c idle_in_transaction_session_timeout={longest}",  # an abandoned session must not keep its locks
            *_NOTICE_LOST_CLIENT,
            *((given,) if isinstance(given, str) else given),
            "-c timezone=UTC",  # last, so that it wins: a time without a zone is UTC, whatever the URL sets
        )
        engine = sa.create_engine(
            url.update_query_dict({"options": " ".join(options)}),
            hide_parameters=True,
            pool_pre_ping=True,
            pool_size=8,
            max_overflow=8,
            execution_options={"penstock_answer_seconds": answer_seconds},
        )
        sa.event.listen(engine, "do_connect", connect_bounded(answer_seconds))
        return engine

    def now(self, connection: sa.Connection) -> datetime:
        moment: datetime = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one()
        return moment.astimezone(UTC)

    def identify(self, connection: sa.Connection) -> str | None:
        name = connection.execute(_DATABASE).scalar_one()
        may_read = connection.execute(_MAY_READ_SYSTEM).scalar_one()
        return f"{connection.execute(_SYSTEM).scalar_one() if may_read else ''}/{name}"

    def enter_snapshot(self, snapshot: str) -> tuple[str, ...]:
        found = re.fullmatch(r"(?P<name>[0-9A-F-]+)/(?P<lock>[0-9]+)", snapshot)
        if not found:
            raise ValueError(f"`{snapshot}` is not a snapshot")
        # Another server, or this one after a crash, may have another snapshot of that name. So ask for the lock too.
        exporter_is_gone = f"pg_try_advisory_xact_lock_shared({found['lock']})"
        missing = f"raise exception 'snapshot {snapshot} does not exist'"
        return (
            *READ_ONLY,
            f"SET TRANSACTION SNAPSHOT '{found['name']}'",
            f"DO $$ begin if {exporter_is_gone} then {missing}; end if; end $$",
        )

    def export_snapshot(self, connection: sa.Connection) -> str:
        for statement in READ_ONLY:
            connection.exec_driver_sql(statement)
        connection.execute(_LIFT, {"names": list(_TIMEOUTS)})
        lock = secrets.randbits(63)
        name = connection.execute(sa.select(sa.func.pg_export_snapshot())).scalar_one()
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
        return f"{name}/{lock}"

    def wait_for_lock(self, milliseconds: int) -> str | None:
        return f"SET LOCAL lock_timeout = {milliseconds}"

    def lock_transaction(self, number: int) -> "sa.Select[Any] | None":
        return sa.select(sa.func.pg_advisory_xact_lock(number))

    def read_horizon(self, connection: sa.Connection, name: str) -> Horizon:
        """Return the begin of the oldest open transaction, by the server's clock.

        Transactions that have written nothing yet count too: looking only at those with a transaction id missed 21 of
        3,468 rows.
        """
        standby, seeing, user = connection.execute(_SIGHT).one()
        if standby:
            raise HorizonHidden(name, "it is a standby, and only the primary knows the open transactions")
        if not seeing:
            remedy = f'an administrator can `GRANT pg_read_all_stats TO "{user}"`'
            raise HorizonHidden(name, f"user `{user}` may not see other sessions; {remedy}")
        now = self.now(connection)
        sessions = connection.execute(_SESSIONS, {"reader": READER}).all()
        prepared = connection.execute(_PREPARED).all()  # last: one that was just prepared is a session
        if prepared:
            gid, owner, since = prepared[0]
            others = _count_others(len(prepared) + len(sessions) - 1)
            blocker = f"transaction `{gid}` of user `{owner}` is prepared since {_write(since)}{others}"
            return Horizon(_BEGINNING, blocker)
        if sessions and sessions[0].xact_start < now:
            pid, user, application, since = sessions[0]
            who = f"session {pid} of user `{user}`" if user else f"background session {pid}"
            named = f" (application `{application}`)" if application else ""
            others = _count_others(len(sessions) - 1)
            blocker = f"{who}{named} has a transaction open since {_write(since)}{others}"
            return Horizon(since.astimezone(UTC), blocker)
        return Horizon(now, f"the clock of `{name}` is only at {_write(now)}")

    def reflected(self, kind: Type) -> Type:
        return base_type(kind)

    def describe(self, cursor: Any, names: Sequence[str]) -> list[Type | None]:
        return [type_of_oid(column[1]) for column in cursor.description]

    def readable(self, column: Element) -> Element:
        return readable(column)

    def orderable(self, element: Element) -> Element:
        return element if is_ordered(element.type) else as_text(element)

    def extreme(self, function: Callable[[Element], Element], element: Element) -> Element:
        found = super().extreme(function, element)
        # Postgres has times that Python lacks, such as `infinity`
        return as_text(found) if isinstance(element.type, sa.Date | sa.DateTime) else found

    def sum_of_changes(self, changed: Element) -> Element | None:
        # The transaction that began first may commit last, and its changes are then older than the newest one.
        if isinstance(changed.type, sa.DateTime):  # the type's own hash takes a seventh of the time
            return sa.func.sum(sa.func.timestamp_hash(sa.cast(changed, sa.DateTime)))
        return sa.func.sum(sa.func.hashtext(as_text(changed)))

    def percentiles(self, along: Element, shares: list[float]) -> Element | None:
        # Sorting the bare values takes a third of the window function's time.
        if not isinstance(along.type, sa.Integer | sa.DateTime):
            return None
        return sa.func.percentile_disc(sa.literal(shares, ARRAY(sa.Double))).within_group(along)

    def time_step(self, time: Element, first: int, step: int) -> Element | None:
        seconds = sa.func.date_part("epoch", time, type_=sa.Double)
        return sa.cast(sa.func.floor((seconds - first) / step), sa.BigInteger)

    def read_table_facts(self, connection: sa.Connection, table: sa.TableClause, time: str) -> TableFacts | None:
        found = connection.execute(_FACTS, {"table": _quote(table), "time": time}).one_or_none()
        if found is None:
            return None
        unique = tuple(frozenset(columns) for columns in found.unique_columns)
        places = TablePlaces(found.file, 0, found.blocks * PLACES) if found.has_places else None
        return TableFacts(found.has_time_index, unique, places, found.is_scattered)

    def in_places(self, table: sa.TableClause, places: TablePlaces) -> "list[sa.ColumnElement[bool]]":
        place: sa.ColumnClause[Any] = sa.literal_column("ctid")
        first, end = (
            sa.literal_column(f"'({n // PLACES},{n % PLACES})'::tid", sa.Text) for n in (places.first, places.end)
        )
        # VACUUM FULL moves rows, also those that older snapshots see. From another file no row is read.
        # The name is no parameter, because a read without parameters uses COPY.
        # `_quote` doubles percent signs, and so does the compiler.
        name = _quote(table).replace("%%", "%").replace("'", "''")
        relation: sa.ColumnClause[Any] = sa.literal_column(f"'{name}'", sa.Text())
        same_file = sa.func.pg_relation_filenode(sa.cast(relation, REGCLASS)) == sa.literal(
            places.file, sa.BigInteger()
        )
        return [place >= first, place < end, same_file]

    def place_step(self, first: int, end: int, step: int) -> Element:
        series = f"generate_series({first:d}::bigint, {end - 1:d}, {step:d})"
        starts = f"array(select format('(%s,%s)', n / {PLACES}, n % {PLACES})::tid from {series} n)"  # noqa: S608 # numbers
        return sa.literal_column(f"width_bucket(ctid, {starts}) - 1", sa.Integer)

    def keep_types(self, columns: Sequence[Element]) -> "sa.Select[Any] | None":
        return sa.select(*columns).where(sa.false())  # its lock lasts until the transaction ends

    def view_grants(self, connection: sa.Connection, view: str) -> list[str]:
        return list(connection.execute(_GRANTS, {"view": view}).scalars())

    def grouped_number(self, number: Element) -> Element:
        return sa.func.to_char(number, "FM999,999,999,999,999,999,990", type_=sa.Text)

    def at_addresses(self, address: Element, chosen: "sa.Select[Any]") -> "sa.ColumnElement[bool]":
        # With an array Postgres goes straight to the addresses. With a subquery it would read the whole table.
        return address == sa.func.any(sa.func.array(chosen.scalar_subquery()))


def _quote(table: sa.TableClause) -> str:
    """Return a table's name as SQL has it."""
    return str(postgresql.dialect().identifier_preparer.format_table(table))  # type: ignore[no-untyped-call] # untyped in SQLAlchemy


def _count_others(count: int) -> str:
    return f", and {plural(count, 'later one')}" if count else ""


def _write(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
