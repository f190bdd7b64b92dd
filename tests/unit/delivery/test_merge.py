"""A batch is merged once, never over a newer value, and taken back only where nobody else has written."""

import json
import threading
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa

from penstock.database.connections import Database, close_engines, open_url
from penstock.delivery import merge as merging
from penstock.delivery.merge import MergeTarget
from penstock.delivery.merge_columns import read_key, read_table
from penstock.delivery.opening import open_merge
from penstock.delivery.target import Reply
from penstock.errors import MergeRefused, SettingsError
from penstock.interval import DataInterval
from penstock.ledger.outbox import Batch, Change, Delivery, Outbox, OutboxRow
from penstock.spec.deliver import MergeDelivery
from penstock.spec.pipeline import Pipeline
from tests.conftest import DIALECTS
from tests.merged import Customers

ADVANCE = merging.FenceTables.advance
FIRST = datetime(2026, 1, 1, tzinfo=UTC)
OUTBOX = Outbox("card-risk", "public.card_risk_scores", "crm")
SPEC = MergeDelivery.model_validate(
    {
        "kind": "merge",
        "name": "crm",
        "connection": "crm",
        "table": "Order Customers",
        "on": {"Select": "customer_id"},
        "set": {'Risk "now"': "score", "country": "country"},
    }
)


@pytest.fixture
def open_crm(database_url: Callable[..., str]) -> Any:
    yield lambda dialect: open_url("crm", database_url(dialect, "crm"), 60)
    close_engines()


@pytest.fixture(params=DIALECTS)
def customers(open_crm: Callable[[str], Database], request: pytest.FixtureRequest) -> Customers:
    customers = Customers(open_crm(request.param))
    customers.create([1, 2, 3])
    return customers


def batch(day: int, sequence: int, number: int = 0) -> Batch:
    """Return a batch of a day's delivery."""
    start = FIRST + timedelta(days=day - 1)
    change = Change(f"day {day}", DataInterval(start, start + timedelta(days=1)), f"run {day}")
    return Batch(Delivery(f"delivery {sequence}", change, sequence, "", "open"), number, 2, "", "sent", 1)


def rows(scores: Mapping[int, float | None], country: str = "DE") -> list[OutboxRow]:
    values = [json.dumps({"score": score, "country": country}) for score in scores.values()]
    return [OutboxRow(json.dumps({"customer_id": key}), each) for key, each in zip(scores, values, strict=True)]


def removals(*keys: int) -> list[OutboxRow]:
    return [OutboxRow(json.dumps({"customer_id": key}), None) for key in keys]


def send(customers: Customers, at: Batch, given: list[OutboxRow], outbox: Outbox = OUTBOX) -> Reply:
    target = MergeTarget(SPEC, customers.database, 60)
    assert target.open().accepted
    reply = target.send(outbox, at, given)
    target.close()
    return reply


def test_a_batch_that_was_merged_changes_nothing_when_it_comes_again(customers: Customers) -> None:
    first = send(customers, batch(1, 1), rows({1: 0.1, 2: 0.2, 9: 0.9}))
    assert (first.accepted, first.missing) == (True, 1)
    send(customers, batch(2, 2), rows({1: 0.5}))
    assert send(customers, batch(1, 1), rows({1: 0.1, 2: 0.2, 9: 0.9})) == first
    assert customers.scores() == {1: 0.5, 2: 0.2}
    assert send(customers, batch(1, 1, 1), rows({3: 0.3})).accepted
    assert customers.rows()[3] == ("about 3", 0.3, "DE")


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_the_value_of_the_newest_interval_stays_whatever_comes_last(
    customers: Customers, order: tuple[int, int]
) -> None:
    for sequence, day in enumerate(order, 1):
        assert send(customers, batch(day, sequence), rows({1: day / 10, 4 - day: 0.7})).accepted
    assert customers.scores() == {1: 0.2, 2: 0.7, 3: 0.7}


def test_an_older_delivery_of_an_interval_that_comes_late_is_refused(customers: Customers) -> None:
    send(customers, batch(1, 5), rows({1: 0.5}))
    send(customers, batch(1, 6), removals(1))
    late = send(customers, batch(1, 5), rows({1: 0.5}))
    assert not late.accepted
    assert not late.again
    assert "delivery 6 of the interval was merged there" in late.text
    copied = Batch(Delivery("of another ledger", batch(1, 6).delivery.change, 6, "", "open"), 0, 1, "", "sent", 1)
    assert not send(customers, copied, rows({1: 0.5})).accepted
    assert customers.scores() == {}


def test_a_removal_leaves_what_others_have_written(customers: Customers) -> None:
    """A newer interval, another pipeline, and a person."""
    send(customers, batch(1, 1), rows({1: 0.1, 2: 0.2, 3: 0.3}))
    send(customers, batch(2, 2), rows({1: 0.5}))
    with customers.database.writing() as connection:
        edit = sa.update(customers.table).where(customers.table.c.Select == 2)
        connection.execute(edit.values({'Risk "now"': 0.99}))
    other = Outbox("other", "public.other_scores", "crm")
    send(customers, batch(1, 1), rows({3: 0.3}), other)

    assert send(customers, batch(1, 3), removals(1, 2, 3, 9)).accepted
    assert customers.rows() == {1: ("about 1", 0.5, "DE"), 2: ("about 2", 0.99, None), 3: ("about 3", 0.3, "DE")}
    send(customers, batch(1, 2), removals(3), other)
    assert customers.rows()[3] == ("about 3", None, None)


def test_nothing_of_a_removed_key_stays_beside_the_table(customers: Customers) -> None:
    send(customers, batch(1, 1), rows({1: 0.1, 2: 0.2}))
    with customers.database.writing() as connection:
        connection.execute(sa.delete(customers.table).where(customers.table.c.Select == 2))
    send(customers, batch(1, 2), removals(1, 2))
    with customers.database.reading() as connection:
        assert connection.execute(sa.text("select count(*) from penstock_merged")).scalar() == 0


def test_a_key_that_is_in_two_rows_is_refused_and_nothing_is_changed(open_crm: Callable[[str], Database]) -> None:
    for dialect in DIALECTS:
        customers = Customers(open_crm(dialect))
        with customers.database.writing() as connection:
            connection.execute(
                sa.text(
                    'create table "Order Customers" ("Select" bigint, note varchar(20), '
                    '"Risk ""now""" double precision, country varchar(20))'
                )
            )
            connection.execute(customers.table.insert(), [{"Select": key} for key in (1, 2, 2)])
        reply = send(customers, batch(1, 1), rows({1: 0.1, 2: 0.2}))
        assert not reply.accepted
        assert not reply.again
        assert "`Order Customers`: 1 key is in more than one row of it" in reply.text
        assert "`Select`" in reply.text
        assert customers.scores() == {}


def test_a_transaction_that_breaks_leaves_nothing(customers: Customers, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(merging.FenceTables, "advance", fail)
        with pytest.raises(RuntimeError):
            send(customers, batch(1, 1), rows({1: 0.1}))
    assert customers.scores() == {}
    assert send(customers, batch(1, 1), rows({1: 0.1})).accepted
    assert customers.scores() == {1: 0.1}


@pytest.mark.parametrize("first", [1, 2])
def test_two_deliveries_at_once_end_with_the_newer_value(
    open_crm: Callable[[str], Database], first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one has begun its transaction when the other one comes, and commits after half a second."""
    for dialect in ("sqlite", "postgresql"):
        customers = Customers(open_crm(dialect))
        customers.create(range(200))
        inside = threading.Event()

        def slow(self: Any, connection: Any, source: str, at: Batch, missing: int, inside: Any = inside) -> None:
            ADVANCE(self, connection, source, at, missing)
            if not inside.is_set():
                inside.set()
                threading.Event().wait(0.5)

        with monkeypatch.context() as patch:
            patch.setattr(merging.FenceTables, "advance", slow)
            replies: list[Reply] = []

            def work(day: int, customers: Customers = customers, replies: list[Reply] = replies) -> None:
                replies.append(send(customers, batch(day, day), rows(dict.fromkeys(range(200), day / 10))))

            send(customers, batch(9, 9), [])
            inside.clear()
            earlier = threading.Thread(target=work, args=(first,))
            earlier.start()
            assert inside.wait(20)
            later = threading.Thread(target=work, args=(3 - first,))
            later.start()
            for thread in (earlier, later):
                thread.join()
        assert [reply.accepted for reply in replies] == [True, True], replies
        assert customers.scores() == dict.fromkeys(range(200), 0.2)


TYPES = {
    "score": pa.float64(),
    "number": pa.int64(),
    "decision": pa.string(),
    "price": pa.decimal128(10, 3),
    "seen": pa.timestamp("us", "UTC"),
    "day": pa.date32(),
    "good": pa.bool_(),
}
MISFITS = {
    "sqlite": {"score": "text", "number": "real", "decision": "integer", "price": "numeric(10,3)", "seen": "timestamp"},
    "postgresql": {
        "score": "real",
        "number": "text",
        "decision": "integer",
        "price": "numeric(10,2)",
        "seen": "timestamp",
        "day": "text",
        "good": "integer",
    },
    "duckdb": {"score": "float", "number": "varchar", "price": "decimal(10,2)", "seen": "timestamp", "good": "bigint"},
}
FITTING = {
    "sqlite": {"score": "real", "number": "integer", "decision": "varchar(9)", "day": "date", "good": "boolean"},
    "postgresql": {
        "score": "double precision",
        "number": "integer",
        "decision": "varchar(9)",
        "price": "numeric(12,3)",
        "seen": "timestamptz",
        "day": "date",
        "good": "boolean",
    },
    "duckdb": {
        "score": "double",
        "number": "integer",
        "decision": "varchar",
        "price": "decimal(12,3)",
        "seen": "timestamptz",
        "day": "date",
        "good": "boolean",
    },
}


def make_table(database: Database, columns: Mapping[str, str]) -> MergeDelivery:
    with database.writing() as connection:
        listed = ", ".join(f"c_{name} {kind}" for name, kind in columns.items())
        connection.execute(sa.text(f"create table typed (id bigint primary key, {listed})"))
        connection.execute(sa.text("insert into typed (id) values (1)"))
    given = {"kind": "merge", "name": "crm", "connection": "crm", "table": "typed", "on": {"id": "customer_id"}}
    return MergeDelivery.model_validate(given | {"set": {f"c_{name}": name for name in columns}})


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_column_that_would_change_the_values_is_refused(open_crm: Callable[[str], Database], dialect: str) -> None:
    database = open_crm(dialect)
    for name, kind in MISFITS[dialect].items():
        table = read_table(database, make_table(database, {name: kind}))
        with pytest.raises(MergeRefused, match=f"its column `c_{name}` is .*, and `{name}` has"):
            table.check(pa.schema({"customer_id": pa.int64(), name: TYPES[name]}), database)
        with database.writing() as connection:
            connection.execute(sa.text("drop table typed"))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_values_arrive_as_they_are_and_go_again(open_crm: Callable[[str], Database], dialect: str) -> None:
    database = open_crm(dialect)
    kinds = FITTING[dialect]
    spec = make_table(database, kinds)
    sent = {
        "score": 0.1 + 0.2,
        "number": -7,
        "decision": "Grün 'x'",
        "price": "12.345",
        "seen": "2026-01-02T03:04:05.678901Z",
        "day": "2026-02-03",
        "good": True,
    }
    read = sent | {
        "price": Decimal("12.345"),
        "seen": datetime(2026, 1, 2, 3, 4, 5, 678901, UTC),
        "day": date(2026, 2, 3),
    }
    target = MergeTarget(spec, database, 60)
    assert target.open().accepted
    target.check_columns(pa.schema({"customer_id": pa.int64()} | {name: TYPES[name] for name in kinds}))
    given = json.dumps({name: sent[name] for name in kinds})
    reply = target.send(OUTBOX, batch(1, 1), [OutboxRow('{"customer_id":1}', given)])
    assert reply.accepted, reply.text
    stored = sa.select(*target.table.values.values())
    with database.reading() as connection:
        assert list(connection.execute(stored).one()) == [read[name] for name in kinds]
    assert target.send(OUTBOX, batch(1, 2), removals(1)).accepted
    with database.reading() as connection:
        assert list(connection.execute(stored).one()) == [None] * len(kinds)
    target.close()


@pytest.mark.parametrize(
    ("given", "kind", "read"),
    [
        ("1.5", sa.BigInteger(), None),
        (2**63, sa.Integer(), None),
        (-(2**63), sa.BigInteger(), -(2**63)),
        ("7", sa.Integer(), None),
        ("1.5", sa.Numeric(12, 0), None),
        ("1.5", sa.Numeric(12, 2), Decimal("1.50")),
        ("1.505", sa.Numeric(12, 2), None),
        (12345, sa.Numeric(4, 0), None),
        (100, sa.Numeric(4, 2), None),
        ("0.1234567890123456789012345678901", sa.Numeric(), Decimal("0.1234567890123456789012345678901")),
        ("1e5", sa.Numeric(6, 0), Decimal(100000)),
        ("one", sa.Numeric(6, 0), None),
        (1, sa.Double(), None),
        (1, sa.Text(), None),
        ("01", sa.CHAR(4), "01"),
        ("2026-02-03", sa.Date(), date(2026, 2, 3)),
        ("2026-02-30", sa.Date(), None),
        ("2026-02-03T00:00:00Z", sa.Date(), None),
        ("2026-02-03", sa.DateTime(timezone=True), None),
        (1, sa.Uuid(), None),
    ],
)
def test_a_key_that_its_column_cannot_have_is_no_key_of_the_table(given: Any, kind: Any, read: Any) -> None:
    assert read_key(given, kind) == read


@pytest.mark.parametrize("kind", ["numeric(4,0)", "bigint", "numeric(4,1)"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_no_key_is_rounded_to_that_of_another_row(open_crm: Callable[[str], Database], dialect: str, kind: str) -> None:
    """Keys that the column does not hold are missing, beside others in one batch that it does."""
    database = open_crm(dialect)
    with database.writing() as connection:
        connection.execute(sa.text(f"create table typed (id {kind}, risk double precision)"))
        connection.execute(sa.text("insert into typed (id) values (1), (2), (3)"))
    spec = {"kind": "merge", "name": "crm", "connection": "crm", "table": "typed", "on": ["id"]}
    target = MergeTarget(MergeDelivery.model_validate(spec | {"set": {"risk": "score"}}), database, 60)
    keys = [1, "1.5", "2.55", "3.5", 123456, 2**70]
    given = [OutboxRow(json.dumps({"id": key}), json.dumps({"score": 0.1})) for key in keys]
    reply = target.send(OUTBOX, batch(1, 1), given)
    assert (reply.accepted, reply.missing) == (True, 5), reply.text
    with database.reading() as connection:
        written = connection.execute(sa.text("select id from typed where risk is not null")).scalars()
        assert [int(key) for key in written] == [1]
    target.close()


def test_fractions_are_no_keys_in_a_database_without_exact_numbers(open_crm: Callable[[str], Database]) -> None:
    database = open_crm("sqlite")
    with database.writing() as connection:
        connection.execute(sa.text("create table typed (id numeric(12,2), risk real)"))
    spec = {"kind": "merge", "name": "crm", "connection": "crm", "table": "typed", "on": ["id"], "set": {"risk": "r"}}
    table = read_table(database, MergeDelivery.model_validate(spec))
    table.check(pa.schema({"id": pa.decimal128(12, 0), "r": pa.float64()}), database)
    with pytest.raises(MergeRefused, match=r"its column `id` is .*exact numbers with 2 digits"):
        table.check(pa.schema({"id": pa.decimal128(12, 2), "r": pa.float64()}), database)


def test_a_changed_set_and_a_changed_on_leave_nothing_behind(customers: Customers) -> None:
    send(customers, batch(1, 1), rows({1: 0.1, 2: 0.2}))
    with customers.database.writing() as connection:
        connection.execute(sa.text('alter table "Order Customers" rename column "Select" to number'))
    spec = SPEC.model_copy(update={"on": {"number": "customer_id"}, "set": {"country": "country"}})
    target = MergeTarget(spec, customers.database, 60)
    assert target.send(OUTBOX, batch(1, 2), removals(1, 2)).accepted
    with customers.database.reading() as connection:
        assert connection.execute(sa.text("select count(*) from penstock_merged")).scalar() == 0
        left = sa.text('select number, "Risk ""now""", country from "Order Customers" order by number')
        assert connection.execute(left).tuples().all() == [(1, None, None), (2, None, None), (3, None, None)]
    target.close()


def test_a_column_of_the_key_can_be_set_too(customers: Customers) -> None:
    spec = SPEC.model_copy(update={"set": {'Risk "now"': "score", "note": "shop"}, "on": {"Select": "customer_id"}})
    target = MergeTarget(spec, customers.database, 60)
    given = [OutboxRow('{"customer_id":1,"shop":"north"}', '{"score":0.5}')]
    assert target.send(OUTBOX, batch(1, 1), given).accepted
    target.close()
    assert customers.rows()[1] == ("north", 0.5, None)


@pytest.mark.parametrize("dialect", ["postgresql", "duckdb"])
def test_a_refusal_quotes_no_value_and_says_what_to_correct(open_crm: Callable[[str], Database], dialect: str) -> None:
    database = open_crm(dialect)
    spec = make_table(database, {"number": "smallint", "price": "numeric(6,4)"})
    target = MergeTarget(spec, database, 60)
    for value in ({"number": 70_123}, {"price": "170123.75"}):
        reply = target.send(OUTBOX, batch(1, 1), [OutboxRow('{"customer_id":1}', json.dumps(value))])
        assert not reply.accepted
        assert "70" not in reply.text
        assert "`crm` cannot be merged into `typed`" in reply.text
        assert "ledger" not in reply.text
    target.close()


def test_one_table_has_one_fence_whatever_a_spec_calls_it(open_crm: Callable[[str], Database]) -> None:
    names = (("postgresql", "public", "typed"), ("duckdb", "main", "typed"), ("sqlite", None, "TYPED"))
    for dialect, schema, other in names:
        database = open_crm(dialect)
        spec = make_table(database, {"score": "double precision"})
        named = spec.model_copy(update={"schema_": schema, "table": other})
        assert read_table(database, spec).place == read_table(database, named).place


def test_what_the_table_lacks_is_named(open_crm: Callable[[str], Database]) -> None:
    database = open_crm("sqlite")
    spec = make_table(database, {"score": "real not null default 0"})
    with pytest.raises(MergeRefused, match="NOT NULL, and a withdrawn score leaves NULL there"):
        read_table(database, spec)
    with pytest.raises(MergeRefused, match=r"it has no column `c_scor`. Correct `on` or `set`. Did you mean `c_score`"):
        read_table(database, spec.model_copy(update={"set": {"c_scor": "score"}}))
    with pytest.raises(MergeRefused, match=r"connection `crm` has no such table or view.*Did you mean `typed`"):
        read_table(database, spec.model_copy(update={"table": "typd"}))


def test_a_user_without_the_rights_is_told_which(open_crm: Callable[[str], Database]) -> None:
    customers = Customers(open_crm("postgresql"))
    customers.create([1])
    with customers.database.writing() as connection:
        connection.execute(sa.text("drop role if exists clerk"))
        connection.execute(sa.text("create role clerk login"))
        connection.execute(sa.text('grant select on "Order Customers" to clerk'))
        connection.execute(sa.text("revoke create on schema public from public"))
    clerk = open_url("crm", customers.database.url.set(username="clerk").render_as_string(hide_password=False), 60)
    reply = MergeTarget(SPEC, clerk, 60).open()
    assert not reply.accepted
    assert "permission denied for table Order Customers" in reply.text
    with customers.database.writing() as connection:
        connection.execute(sa.text('grant update on "Order Customers" to clerk'))
    reply = send(Customers(clerk), batch(1, 1), rows({1: 0.1}))
    assert not reply.accepted
    assert "Grant the right to create a table there" in reply.text
    with customers.database.writing() as connection:
        connection.execute(sa.text("grant create on schema public to clerk"))
    assert send(Customers(clerk), batch(1, 1), rows({1: 0.1})).accepted
    with customers.database.writing() as connection:
        connection.execute(sa.text(f'revoke temporary on database "{clerk.url.database}" from public'))
    reply = MergeTarget(SPEC, clerk, 60).open()
    assert not reply.accepted
    assert "permission denied to create temporary tables" in reply.text
    close_engines()


def test_a_database_that_takes_no_merges_is_refused_by_name() -> None:
    pytest.importorskip("pymysql", reason="PyMySQL is not installed (the extra `mysql`)")
    with pytest.raises(SettingsError, match="`crm` is MariaDB or MySQL, into which `crm` cannot be merged"):
        open_merge(SPEC, lambda _: "mysql://reader@localhost/crm", 60)


def test_a_merge_is_by_the_whole_key_and_by_nothing_private() -> None:
    source = {"kind": "sql", "connection": "shop", "table": "visits", "key": ["customer_id", "shop"]}
    merge = SPEC.model_dump(mode="json", by_alias=True, exclude_none=True)
    given: dict[str, Any] = {"name": "p", "model": "m@champion", "destination": {"table": "t", "keep": ["country"]}}
    with pytest.raises(ValueError, match="merges on customer_id, and a score belongs to the key customer_id, shop"):
        Pipeline.model_validate(given | {"sources": {"visits": source}, "deliver": [merge]})
    private = source | {"key": ["customer_id"], "private": {"customer_id": "hash"}}
    with pytest.raises(ValueError, match="merges by `customer_id`, which is private"):
        Pipeline.model_validate(given | {"sources": {"visits": private}, "deliver": [merge]})
    with pytest.raises(ValueError, match="name the column `Select` of the table twice"):
        MergeDelivery.model_validate(merge | {"set": {"SELECT": "score"}})


def test_a_column_that_is_set_is_spelled_as_it_is_stored() -> None:
    source = {"kind": "sql", "connection": "shop", "table": "visits", "key": ["customer_id"]}
    merge = SPEC.model_dump(mode="json", by_alias=True, exclude_none=True)
    given: dict[str, Any] = {"name": "p", "model": "m@champion", "destination": {"table": "t", "keep": ["country"]}}
    given |= {"sources": {"visits": source}}
    for column, meant in (("Score", "score"), ("Country", "country"), ("Customer_ID", "customer_id")):
        with pytest.raises(ValueError, match=rf"names `{column}`, which is not stored.*Did you mean `{meant}`"):
            Pipeline.model_validate(given | {"deliver": [merge | {"set": {"risk": column}}]})
    Pipeline.model_validate(given | {"deliver": [merge | {"set": {"risk": "score_Gold", "copy": "customer_id"}}]})
