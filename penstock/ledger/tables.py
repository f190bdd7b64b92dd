"""The ledger's tables. A later column or table names the migration that adds it: `info={"since": n}`."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from penstock.database.dialects import find_dialect
from penstock.database.types import UtcDateTime

metadata = sa.MetaData()

RunId = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Ids compare by bytes, not by the order of a language."""

runs = sa.Table(
    "penstock_runs",
    metadata,
    sa.Column("run_id", RunId, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("interval_key", sa.Text, nullable=False),
    sa.Column("interval_start", UtcDateTime),
    sa.Column("interval_end", UtcDateTime),
    sa.Column("variant", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("model_name", sa.Text, nullable=False),
    sa.Column("model_version", sa.Text, nullable=False),
    sa.Column("model_digest", sa.Text, nullable=False),
    sa.Column("spec_fingerprint", sa.Text, nullable=False),
    sa.Column("destination_table", sa.Text, nullable=False),
    sa.Column("lease_token", sa.Text, nullable=False),
    sa.Column("lease_owner", sa.Text, nullable=False),
    sa.Column("lease_until", UtcDateTime, nullable=False),
    sa.Column("flow_run_id", sa.Text),
    sa.Column("source_fingerprint", sa.Text),
    sa.Column("partitions", sa.Integer),
    sa.Column("rows_planned", sa.BigInteger),
    sa.Column("rows_extracted", sa.BigInteger),
    sa.Column("rows_scored", sa.BigInteger),
    sa.Column("rows_quarantined", sa.BigInteger),
    sa.Column("rows_excluded", sa.BigInteger),
    sa.Column("score_quantiles", sa.Text),
    sa.Column("error", sa.Text),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("published_at", UtcDateTime),
    sa.Column("retired_at", UtcDateTime),
    sa.Column("rows_pruned_at", UtcDateTime, info={"since": 3}),
    sa.Column("cpu_seconds", sa.Double, info={"since": 5}),
    sa.Column("bytes_read", sa.BigInteger, info={"since": 5}),
    sa.Column("bytes_written", sa.BigInteger, info={"since": 5}),
    sa.Column("peak_bytes", sa.BigInteger, info={"since": 5}),
    sa.Column("processes", sa.Integer, info={"since": 5}),
    sa.Column("cost", sa.Double, info={"since": 5}),
    sa.Column("memory", sa.Text, info={"since": 5}),
    sa.Column("step_models", sa.Text, info={"since": 6}),  # JSON: every step's model, where there are several steps
    sa.Column("replaced_by_run_id", RunId, info={"since": 7}),  # of `abandoned` and `superseded` runs
    sa.Column("timezone", sa.Text, info={"since": 8}),  # of the interval's dates; NULL: UTC
    sa.Column("destination", sa.Text, info={"since": 8}),  # `schema.table`, see `destinations`
    sa.Column("rows_explained", sa.BigInteger, info={"since": 10}),  # NULL: the pipeline asks for no reasons
    sa.Column("rows_over_budget", sa.BigInteger, info={"since": 10}),  # without reasons, for the budget of `reasons`
    sa.Column("champion_run_id", RunId, info={"since": 10}),  # of a challenger's run: the one that readers saw
    sa.Column("share", sa.Double, info={"since": 10}),  # of the rows that a challenger scores; NULL: all
    sa.Column("seal_root", sa.Text, info={"since": 10}),  # `key id.digest` over all partitions; NULL: not sealed
)


def _has_partial_indexes(_ddl: Any, _item: Any, _connection: Any, **about: Any) -> bool:
    return find_dialect(about["dialect"].name).has_partial_indexes


where_partial: Any = _has_partial_indexes  # SQLAlchemy's protocol for it cannot be met by a plain function


later_indexes = (
    *(
        # A database that has partial indexes enforces by itself that an interval has one such run.
        sa.Index(
            f"penstock_runs_single_{state}",
            runs.c.pipeline,
            runs.c.destination,
            runs.c.interval_key,
            runs.c.variant,
            unique=True,
            postgresql_where=runs.c.state == state,
            sqlite_where=runs.c.state == state,
        )
        for state in ("running", "published")
    ),
    sa.Index(
        "penstock_runs_by_destination",
        runs.c.destination,
        runs.c.variant,
        runs.c.state,
        runs.c.interval_start,
        runs.c.started_at,
        runs.c.interval_end,
    ),
    sa.Index("penstock_runs_of_interval", runs.c.pipeline, runs.c.interval_key, runs.c.variant, runs.c.started_at),
    sa.Index("penstock_runs_by_start", runs.c.pipeline, runs.c.started_at, runs.c.state),
    sa.Index("penstock_runs_newest", runs.c.started_at, runs.c.state),
)
"""Indexes of version 8. Some of them replace older ones by pipeline. DuckDB has none, because it scans columns."""
for _index in later_indexes:
    _index.ddl_if(callable_=where_partial)

destinations = sa.Table(
    "penstock_destinations",
    metadata,
    sa.Column("destination", sa.Text, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("guard", sa.BigInteger, nullable=False),
    sa.Column("disputed", sa.Boolean, nullable=False),
    info={"since": 8},
)
"""One row a destination, named `schema.table`. `pipeline` owns it.

Every change of what readers see first writes the row, so that such changes take turns, also those of overlapping
intervals. `disputed`: the ledger had overlaps or several owners before version 8, and they may not be resolved yet.
"""

intervals = sa.Table(
    "penstock_intervals",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("interval_key", sa.Text, primary_key=True),
    sa.Column("variant", sa.Text, primary_key=True),
    sa.Column("guard", sa.BigInteger, nullable=False),
)
"""One row an interval. Every claim, publish and withdraw writes it after the destination's row."""

backfills = sa.Table(
    "penstock_backfills",
    metadata,
    sa.Column("flow_run_id", sa.Text, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("destination", sa.Text, nullable=False),
    sa.Column("range_start", UtcDateTime),
    sa.Column("range_end", UtcDateTime),
    sa.Column("pins", sa.Text, nullable=False),  # JSON: every step's model
    sa.Column("continues", UtcDateTime),  # when the first of the backfills began whose pins it has
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("challengers", sa.Text, info={"since": 10}),  # JSON: by name in the spec, `name@version`; null: not found
    info={"since": 8},
)
"""The versions that a backfill pinned. Without `ended_at` some of its intervals are not published yet."""

partitions = sa.Table(
    "penstock_partitions",
    metadata,
    sa.Column("run_id", RunId, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("lower_bound", sa.Text),
    sa.Column("upper_bound", sa.Text),
    sa.Column("rows_extracted", sa.BigInteger, nullable=False),
    sa.Column("rows_scored", sa.BigInteger, nullable=False),
    sa.Column("rows_quarantined", sa.BigInteger, nullable=False),
    sa.Column("rows_excluded", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("seconds", sa.Text, nullable=False),
    sa.Column("process", sa.Text, info={"since": 5}),
    sa.Column("cpu_seconds", sa.Double, info={"since": 5}),
    sa.Column("bytes_read", sa.BigInteger, info={"since": 5}),
    sa.Column("bytes_written", sa.BigInteger, info={"since": 5}),
    sa.Column("peak_bytes", sa.BigInteger, info={"since": 5}),
)

validations = sa.Table(
    "penstock_validations",
    metadata,
    sa.Column("run_id", RunId, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("expectation", sa.Text, nullable=False),
    sa.Column("severity", sa.Text, nullable=False),
    sa.Column("evaluated", sa.BigInteger, nullable=False),
    sa.Column("unexpected", sa.BigInteger, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),  # the counts, what was observed and the releases, in one line
    sa.Column("unit", sa.Text, info={"since": 7}),
    sa.Column("observed", sa.Text, info={"since": 7}),
    sa.Column("released", sa.BigInteger, info={"since": 7}),
)

profiles = sa.Table(
    "penstock_profiles",
    metadata,
    sa.Column("run_id", RunId, primary_key=True),
    sa.Column("column_name", sa.Text, primary_key=True),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("edges", sa.Text),  # JSON; NULL: the column is private
    sa.Column("edges_digest", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),  # the version that the bins are of, as `name/version`
    sa.Column("counts", sa.Text, nullable=False),  # JSON: rows in each bin
    sa.Column("nulls", sa.BigInteger, nullable=False),
    sa.Column("baseline", sa.Text),  # what it is compared with: a version, or the ID of a run
    sa.Column("baseline_counts", sa.Text),
    sa.Column("baseline_nulls", sa.BigInteger),
    sa.Column("farthest", sa.Integer),  # the partition that is farthest from the baseline
    sa.Column("slice", sa.Text),  # JSON: the slice that most of the distance comes from
    sa.Column("sources", sa.Text),  # JSON: of a feature, the sources that its values are made of
    sa.Column("alarm", sa.Text),  # a severity
    sa.Column("episode", RunId),  # the run with which the alarm began
    info={"since": 10},
)
"""With `drift`: the counts of a run's features and scores by bin, and of the rows that they are compared with."""

drift_answers = sa.Table(
    "penstock_drift_answers",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("column_name", sa.Text, primary_key=True),
    sa.Column("answered_at", UtcDateTime, primary_key=True),
    sa.Column("episode", RunId, nullable=False),  # the run with which the alarm began
    sa.Column("silent_until", UtcDateTime),  # NULL: until the episode ends
    sa.Column("answered_by", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("reminded_by_run", RunId),  # the first run with the alarm after `silent_until`
    info={"since": 10},
)
"""What people answered to an alarm of drift, append-only. The newest answer about a column counts."""

quarantine = sa.Table(
    "penstock_quarantine",
    metadata,
    sa.Column("run_id", RunId, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("reasons", sa.Text, nullable=False),
    sa.Column("row", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, info={"since": 2}),
)

moves = sa.Table(
    "penstock_moves",
    metadata,
    sa.Column("move_id", sa.Text, primary_key=True),
    sa.Column("run_id", RunId, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("state_before", sa.Text, nullable=False),
    sa.Column("variant_before", sa.Text, nullable=False),
    sa.Column("published_before", UtcDateTime),
    sa.Column("instead_of", sa.Text, nullable=False),  # JSON: the IDs of the runs that gave way
    sa.Column("moved_at", UtcDateTime, nullable=False),
    sa.Column("moved_by", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    info={"since": 9},
)
"""Runs that a person published again, or published instead of the champion's: who did it, when and why."""

releases = sa.Table(
    "penstock_releases",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("interval_key", sa.Text, primary_key=True),
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("waived", sa.Text, nullable=False),
    sa.Column("refused_by_run", RunId, nullable=False),
    sa.Column("released_at", UtcDateTime, nullable=False),
    sa.Column("released_by", sa.Text, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Column("settled_by_run", RunId),
    info={"since": 2},
)
"""Rows released from quarantine: each as it was judged (`digest`), and the expectations that it is now exempt from."""

forgotten = sa.Table(
    "penstock_forgotten",
    metadata,
    sa.Column("forgotten_id", sa.Text, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("source", sa.Text),
    sa.Column("subject_hash", sa.Text, nullable=False),
    sa.Column("forgotten_at", UtcDateTime, nullable=False),
    sa.Column("counts", sa.Text, nullable=False),
    info={"since": 2},
)
"""Erasures: when, how many rows, and a keyed hash of the key that was erased. Never the key itself."""

log_files = sa.Table(
    "penstock_log_files",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("file_id", sa.Text, primary_key=True),
    sa.Column("path", sa.Text, nullable=False),
    sa.Column("head_hash", sa.Text, nullable=False),
    sa.Column("head_bytes", sa.BigInteger, nullable=False),
    sa.Column("offset", sa.BigInteger, nullable=False),
    sa.Column("tail_hash", sa.Text, nullable=False),
    sa.Column("tail_bytes", sa.BigInteger, nullable=False),
    sa.Column("signature", sa.Text, nullable=False),
    sa.Column("complete", sa.Boolean, nullable=False),
)

log_lines = sa.Table(
    "penstock_log_lines",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("file_id", sa.Text, primary_key=True),
    sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("time", UtcDateTime, nullable=False),
    sa.Column("line", sa.Text, nullable=False),
)
"""Lines that could not be read, with the time of the lines beside them."""

log_horizons = sa.Table(
    "penstock_log_horizons",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("pruned_before", UtcDateTime, nullable=False),
    info={"since": 3},
)
"""The time before which landed lines may have been pruned. An interval that begins earlier cannot be read."""

log_sources = sa.Table(
    "penstock_log_sources",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("landings", sa.BigInteger, nullable=False),
    info={"since": 8},
)
"""One row a log source. Every transaction that lands lines writes it first, and counts itself."""

source_columns = sa.Table(
    "penstock_source_columns",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("source", sa.Text, primary_key=True),
    sa.Column("run_id", RunId, primary_key=True),
    sa.Column("definition", sa.Text, nullable=False),
    sa.Column("columns", sa.Text, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
    info={"since": 4},
)
"""Columns and types of a source as a run saw them, stored when they are new. The newest published one counts."""

labels = sa.Table(
    "penstock_labels",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("key", RunId, primary_key=True),  # JSON: the key's values as text, or as hashes
    sa.Column("seen_at", UtcDateTime, primary_key=True),
    sa.Column("value", RunId, primary_key=True),  # JSON: a number, text or null
    sa.Column("collected_at", UtcDateTime, nullable=False),
    sa.Column("addition", sa.BigInteger, nullable=False),  # number of the transaction that added it
    info={"since": 10},
)
"""The labels of rows, append-only: a changed label is a new row. The newest one by `seen_at` is the label."""

label_sources = sa.Table(
    "penstock_label_sources",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("additions", sa.BigInteger, nullable=False),  # counts the transactions that added labels
    sa.Column("seen_until", UtcDateTime),
    sa.Column("definition", sa.Text, nullable=False),  # a hash of what is read, and how
    sa.Column("pruned_before", UtcDateTime),
    info={"since": 10},
)
"""One row a pipeline with labels. Each transaction that stores labels writes it first."""

performance = sa.Table(
    "penstock_performance",
    metadata,
    sa.Column("run_id", RunId, primary_key=True),
    sa.Column("slice", RunId, primary_key=True),  # JSON: a column and its value; empty: all rows
    sa.Column("scored", sa.BigInteger, nullable=False),
    sa.Column("labelled", sa.BigInteger, nullable=False),  # rows whose label has been seen
    sa.Column("judged", sa.BigInteger, nullable=False),  # rows in the sums: labelled, or counted as negative
    sa.Column("mature", sa.Boolean, nullable=False),
    sa.Column("additions", sa.BigInteger, nullable=False),  # of the label source when it was computed
    sa.Column("definition", sa.Text, nullable=False),
    sa.Column("computed_at", UtcDateTime, nullable=False),
    sa.Column("sums", sa.Text, nullable=False),  # JSON
    sa.Column("waiting", sa.Text),  # JSON: scores by bin of rows without a label that counts, of a binary model
    info={"since": 10},
)
"""The performance of a run as sums that can be added over runs, for all rows and for each value of the slices."""

seals = sa.Table(
    "penstock_seals",
    metadata,
    sa.Column("run_id", RunId, primary_key=True),
    sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("root", sa.Text, nullable=False),  # over the seals of its rows and the tags
    sa.Column("tags", sa.Text, nullable=False),  # one keyed digest a key, sorted, 16 hexadecimal digits each
    info={"since": 10},
)
"""With `seal: true`: the root of each loaded partition, and what tells which keys it had."""

erased_seals = sa.Table(
    "penstock_erased_seals",
    metadata,
    sa.Column("run_id", RunId, primary_key=True),
    sa.Column("seal", RunId, primary_key=True),
    sa.Column("partition", sa.Integer, nullable=False),
    sa.Column("tag", sa.Text, nullable=False),
    sa.Column("proof", sa.Text, nullable=False),  # `key id.digest`: `penstock forget` had the seal's key
    info={"since": 10},
)
"""The seals of rows that `penstock forget` removed, so that the roots of their runs can still be computed."""

performance_alerts = sa.Table(
    "penstock_performance_alerts",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("metric", sa.Text, primary_key=True),
    sa.Column("began_at", UtcDateTime, primary_key=True),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("announced_at", UtcDateTime),
    info={"since": 10},
)
"""Episodes in which a metric was beyond its limit. One without `ended_at` lasts."""

promotions = sa.Table(
    "penstock_promotions",
    metadata,
    sa.Column("model", RunId, primary_key=True),
    sa.Column("alias", RunId, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),  # counts the questions about the alias
    sa.Column("champion", sa.Text, nullable=False),  # the version that the alias named
    sa.Column("candidate", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("evidence", sa.Text, nullable=False),  # JSON
    sa.Column("digest", sa.Text, nullable=False),  # sha256 of the evidence
    sa.Column("flow_run_id", sa.Text, nullable=False),  # that asks; empty: without Prefect
    sa.Column("asked_at", UtcDateTime, nullable=False),
    sa.Column("answer_until", UtcDateTime, nullable=False),
    sa.Column("answered_at", UtcDateTime),
    sa.Column("answered_by", sa.Text),  # as the person typed it
    sa.Column("note", sa.Text),
    sa.Column("ended_at", UtcDateTime),
    sa.Column("why", sa.Text),  # of an end without a move
    info={"since": 10},
)
"""Promotions that met their requirements: the evidence, who answered, and whether the alias moved. At most the newest
one of an alias is open."""

delivery_targets = sa.Table(
    "penstock_delivery_targets",
    metadata,
    sa.Column("destination", RunId, primary_key=True),
    sa.Column("target", RunId, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("sequence", sa.BigInteger, nullable=False),  # counts the deliveries
    sa.Column("lease_token", sa.Text),
    sa.Column("lease_until", UtcDateTime),
    sa.Column("not_before", UtcDateTime),  # the target asked to wait until then
    sa.Column("failing_since", UtcDateTime),
    sa.Column("error", sa.Text),  # of the newest delivery, while `failing_since` is set
    sa.Column("announced_at", UtcDateTime),  # when people were told of the failures since `failing_since`
    sa.Column("erased_at", UtcDateTime, info={"since": 12}),  # a row was erased that old files may still have
    sa.Column("place", sa.Text, info={"since": 12}),  # digest of where the rows are; NULL: version 11 delivered last
    info={"since": 11},
)
"""One row a target of `deliver:`. Who delivers to it first takes its lease."""

deliveries = sa.Table(
    "penstock_deliveries",
    metadata,
    sa.Column("delivery_id", RunId, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("destination", RunId, nullable=False),
    sa.Column("target", RunId, nullable=False),
    sa.Column("interval_key", RunId, nullable=False),
    sa.Column("interval_start", UtcDateTime),
    sa.Column("interval_end", UtcDateTime),
    sa.Column("timezone", sa.Text),
    sa.Column("run_id", RunId),  # whose rows the target gets; NULL: the interval has no live run any more
    sa.Column("sequence", sa.BigInteger, nullable=False),
    sa.Column("definition", sa.Text, nullable=False),  # digest of what the spec says about the target
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("upserts", sa.BigInteger, nullable=False),
    sa.Column("deletes", sa.BigInteger, nullable=False),
    sa.Column("planned_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    info={"since": 11},
)
"""The difference between what a target had of an interval and what is live, as it was planned."""

delivery_batches = sa.Table(
    "penstock_delivery_batches",
    metadata,
    sa.Column("delivery_id", RunId, primary_key=True),
    sa.Column("batch", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("last_key", RunId, nullable=False),  # `-` for removals, else `+`, and the key; '' when acknowledged
    sa.Column("rows", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("reply", sa.Text),
    sa.Column("sent_at", UtcDateTime),
    sa.Column("acknowledged_at", UtcDateTime),
    sa.Column("missing", sa.BigInteger, info={"since": 12}),  # rows whose keys the target's table does not have
    info={"since": 11},
)
"""What is sent at once. A batch that was sent and not acknowledged may have arrived."""

delivery_rows = sa.Table(
    "penstock_delivery_rows",
    metadata,
    sa.Column("delivery_id", RunId, primary_key=True),
    sa.Column("key", RunId, primary_key=True),  # JSON
    sa.Column("digest", sa.Text),  # of the values; NULL: the target must remove the row
    sa.Column("row_values", sa.Text),  # JSON
    info={"since": 11},
)
"""The outbox: rows of deliveries that are not acknowledged. Their batches are sent from here, byte for byte."""

delivered_intervals = sa.Table(
    "penstock_delivered_intervals",
    metadata,
    sa.Column("destination", RunId, primary_key=True),
    sa.Column("target", RunId, primary_key=True),
    sa.Column("interval_key", RunId, primary_key=True),
    sa.Column("pipeline", sa.Text, nullable=False),
    sa.Column("interval_start", UtcDateTime),
    sa.Column("interval_end", UtcDateTime),
    sa.Column("timezone", sa.Text),
    sa.Column("run_id", RunId),  # whose rows the target has; NULL: a delivery is under way, or rows were erased
    info={"since": 11},
)
"""The intervals of which a target has rows, or may have."""

delivered_keys = sa.Table(
    "penstock_delivered_keys",
    metadata,
    sa.Column("destination", RunId, primary_key=True),
    sa.Column("target", RunId, primary_key=True),
    sa.Column("interval_key", RunId, primary_key=True),
    sa.Column("key", RunId, primary_key=True),  # JSON
    sa.Column("digest", sa.Text, nullable=False),  # of the values that the target has; '': not known
    info={"since": 11},
)
"""The keys that a target has, or may have."""

served_runs = sa.Table(
    "penstock_served_runs",
    metadata,
    sa.Column("run_id", RunId, primary_key=True),
    sa.Column("scoring", sa.Text, nullable=False),  # fingerprint of what the spec says about scoring
    sa.Column("layout", sa.Text, nullable=False),  # JSON: the Arrow schemas of its rows, and which columns are hidden
    info={"since": 12},
)
"""With `serve.record`: what the rows of a run of variant `served` are made of. The rows are in `<table>__served`."""

served_answers = sa.Table(
    "penstock_served_answers",
    metadata,
    sa.Column("pipeline", sa.Text, primary_key=True),
    sa.Column("idempotency_key", RunId, primary_key=True),  # a hash of the client's name and its key
    sa.Column("run_id", RunId, nullable=False),
    sa.Column("request_id", RunId, nullable=False),
    sa.Column("request", sa.Text, nullable=False),  # a hash of the body and of what else decides the answer
    sa.Column("answer", sa.Text, nullable=False),  # JSON: status, headers and body
    sa.Column("recorded_at", UtcDateTime, nullable=False),
    info={"since": 12},
)
"""The answers to requests with an `Idempotency-Key`, which a retry gets again."""

schema = sa.Table(
    "penstock_schema",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("applied_at", UtcDateTime, nullable=False),
)


def since(item: sa.Table | sa.Column[object]) -> int:
    """Return the migration that adds a table or column."""
    return int(item.info.get("since", 1))
