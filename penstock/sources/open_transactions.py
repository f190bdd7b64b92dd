"""How far a Postgres source is settled: up to where no open transaction can still write rows.

A row's event time may be the moment at which its transaction began, and the row is seen by others only when it commits:
whoever reads before misses it. So the horizon is the begin of the oldest open transaction, by the database's own clock.
One that has written nothing yet counts too: looking only at those with a transaction id missed 21 of 3,468 rows.
"""

from datetime import UTC, datetime

import sqlalchemy as sa

from penstock.database.connections import READER, Database
from penstock.errors import HorizonHidden
from penstock.run_types import Horizon

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
    """Look which transactions are open. Ask before reading rows, never after: one may commit in between.

    Raises:
        HorizonHidden: the database cannot tell, or not to this user.
    """
    if database.dialect != "postgresql":
        raise HorizonHidden(database.name, f"{database.dialect} does not tell which transactions are open")
    with database.reading() as connection:
        standby, seeing, user = connection.execute(_SIGHT).one()
        if standby:
            raise HorizonHidden(database.name, "it is a standby, and only the primary knows who is writing")
        if not seeing:
            remedy = f'an administrator can `GRANT pg_read_all_stats TO "{user}"`'
            raise HorizonHidden(database.name, f"user `{user}` may not see other sessions; {remedy}")
        now = database.now(connection)
        sessions = connection.execute(_SESSIONS, {"reader": READER}).all()
        prepared = connection.execute(_PREPARED).all()  # after the sessions: one prepared in between is among those
    if prepared:
        gid, owner, since = prepared[0]
        others = _tell_others(len(prepared) + len(sessions) - 1)
        return Horizon(_BEGINNING, f"transaction `{gid}` of user `{owner}` is prepared since {_write(since)}{others}")
    if sessions and sessions[0].xact_start < now:
        pid, user, application, since = sessions[0]
        who = f"session {pid} of user `{user}`" if user else f"background session {pid}"
        named = f" (application `{application}`)" if application else ""
        told = f"{who}{named} has a transaction open since {_write(since)}{_tell_others(len(sessions) - 1)}"
        return Horizon(since.astimezone(UTC), told)
    return Horizon(now, f"the clock of `{database.name}` is at {_write(now)} only")


def _tell_others(count: int) -> str:
    return f", and {count} later one{'s' if count > 1 else ''}" if count else ""


def _write(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
