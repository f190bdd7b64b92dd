"""Loaded once by the fork server: all that a run imports. No thread and no connection may come of it."""

import duckdb  # noqa: F401
import prefect.flow_engine  # noqa: F401
import psycopg  # noqa: F401
import xgboost  # noqa: F401
from adbc_driver_postgresql import dbapi  # noqa: F401

import penstock.flows.score
import penstock.report.card  # noqa: F401
import tests.driver
import tests.faults.harness.child  # noqa: F401
from penstock.quality import load_engine

load_engine()
