"""Find the time up to which a Postgres source is complete: the begin of its oldest open transaction.

A row's event time may be the begin of its transaction, and others see the row only after the commit. A read before the
commit misses it. So the horizon is the begin of the oldest open transaction, by the database's clock. Transactions that
have written nothing yet count too: looking only at those with a transaction id missed 21 of 3,468 rows.
"""

from datetime import UTC, datetime

import sqlalchemy as sa

from penstock.database.connections import READER, Database
from penstock.errors import HorizonHidden
from penstock.run_types import Horizon
from penstock.wording import plural

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


def read_horizon(database: Database) -> Horizon:
    """Find the oldest open transaction. Call this before reading rows, because one may commit in between.

    Raises:
        HorizonHidden: the database does not show transactions, or not to this user.
    """
    if database.dialect != "postgresql":
        raise HorizonHidden(database.name, f"{database.dialect} does not show which transactions are open")
    with database.reading() as connection:
        standby, seeing, user = connection.execute(_SIGHT).one()
        if standby:
            raise HorizonHidden(database.name, "it is a standby, and only the primary knows the open transactions")
        if not seeing:
            remedy = f'an administrator can `GRANT pg_read_all_stats TO "{user}"`'
            raise HorizonHidden(database.name, f"user `{user}` may not see other sessions; {remedy}")
        now = database.now(connection)
        sessions = connection.execute(_SESSIONS, {"reader": READER}).all()
        prepared = connection.execute(_PREPARED).all()  # last: one that was just prepared is a session
    if prepared:
        gid, owner, since = prepared[0]
        others = _count_others(len(prepared) + len(sessions) - 1)
        return Horizon(_BEGINNING, f"transaction `{gid}` of user `{owner}` is prepared since {_write(since)}{others}")
    if sessions and sessions[0].xact_start < now:
        pid, user, application, since = sessions[0]
        who = f"session {pid} of user `{user}`" if user else f"background session {pid}"
        named = f" (application `{application}`)" if application else ""
        others = _count_others(len(sessions) - 1)
        blocker = f"{who}{named} has a transaction open since {_write(since)}{others}"
        return Horizon(since.astimezone(UTC), blocker)
    return Horizon(now, f"the clock of `{database.name}` is only at {_write(now)}")


def _count_others(count: int) -> str:
    return f", and {plural(count, 'later one')}" if count else ""


def _write(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
