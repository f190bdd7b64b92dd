"""The health page of `penstock up`: whether the server and a worker are well."""

from typing import Any, cast

from prefect.server import models
from prefect.server.api.server import create_app
from prefect.server.database import provide_database_interface
from prefect.server.schemas.responses import WorkerResponse
from prefect.server.schemas.statuses import WorkerStatus
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

PATH = "/health"
POOL = "penstock"


async def report_health(request: Request) -> JSONResponse:
    """Return 200 if a worker of our pool is online and the server's database answers, and 503 without a worker."""
    database, stored = provide_database_interface(), cast("Any", models.workers)  # their decorator hides the types
    async with database.session_context() as session:
        pool = await stored.read_work_pool_by_name(session=session, work_pool_name=POOL)
        found = await stored.read_workers(session=session, work_pool_id=pool.id) if pool else []
        workers = [WorkerResponse.model_validate(each, from_attributes=True) for each in found]
    online = [worker.name for worker in workers if worker.status is WorkerStatus.ONLINE]
    return JSONResponse({"server": "ok", "workers": online}, 200 if online else 503)


def create_app_with_health() -> Starlette:
    """Return Prefect's app with our page before the UI, which answers every other path."""
    app = create_app()
    app.router.routes.insert(0, Route(PATH, report_health))
    return app
