"""`penstock serve`: score requests over HTTP."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from secrets import token_bytes
from typing import TYPE_CHECKING, Annotated

import typer

from penstock.cli.opening import connector, open_models, open_pipeline, open_settings, pipeline_files
from penstock.cli.output import error_console
from penstock.errors import ServeRefused

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from penstock.serving.server import Address
    from penstock.settings import Settings
    from penstock.spec.pipeline import Pipeline
    from penstock.web.context import WebContext


def add_commands(app: typer.Typer) -> None:
    app.command("serve", epilog="Example: penstock serve card-risk --port 8080")(serve)


def serve(
    pipelines: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PIPELINE]...", help="Names or YAML files. Default: those with `serve` in their spec."),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on. Others than loopback need tokens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on.")] = 8080,
    workers: Annotated[int, typer.Option(min=1, max=256, help="Processes that score.")] = 1,
    token_file: Annotated[
        Path | None,
        typer.Option(
            "--token-file",
            metavar="FILE",
            help="File of `penstock tokens`. Default: PENSTOCK_TOKEN_FILE.",
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Most requests a second of a token, in each process. Default: no limit.")
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-host", metavar="NAME", help="Name by which clients call the server, beside --host. Needs tokens."
        ),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option("--tls-certificate", metavar="FILE", help="Serve over TLS with this certificate.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--tls-key", metavar="FILE", help="Private key of the certificate.")
    ] = None,
) -> None:
    """Score requests over HTTP, as a run scores rows: the same features, expectations, models and decisions.

    The models are those that the aliases name, and a promotion is taken without a restart. SIGTERM ends the server once
    the requests in flight are answered. With `serve.record` it keeps what it served. The same server has pages for
    people.
    """
    from penstock.serving.server import Address, run_server

    settings = open_settings()
    address = Address(host, port, token_file or settings.token_file, tuple(allow_host or ()), certificate, key)
    address.check()
    found = tuple(str(file) for file in _choose(pipelines, settings))
    process = ServingProcess(found, address, rate)
    process.open_pipelines(settings)

    def tell(url: str) -> None:
        error_console().print(f"serving {len(found)} on {url}; Ctrl-C ends it", markup=False, soft_wrap=True)

    run_server(process, address, workers, tell)


def _choose(names: list[str] | None, settings: "Settings") -> "list[str | Path]":
    """Return the pipelines that are named, else the files of those with `serve`."""
    if names:
        return list(names)
    files: list[str | Path] = [f for f in pipeline_files(settings) if open_pipeline(str(f), settings).serve is not None]
    if not files:
        raise ServeRefused(
            f"no pipeline in {settings.pipelines} has `serve`", "Name a pipeline, or write `serve: {}` in its spec."
        )
    return files


@dataclass(frozen=True)
class ServingProcess:
    """Makes the application in each process of the server."""

    pipelines: tuple[str, ...]
    address: "Address"
    rate: float | None
    session_key: bytes = field(default_factory=partial(token_bytes, 32), repr=False)
    """Signs the sessions of the pages. All processes of the server have this one."""

    def open_pipelines(self, settings: "Settings") -> "list[Pipeline]":
        """Read the specs.

        Raises:
            ServeRefused: two have one name or one table, or a request cannot be scored with one of them.
        """
        from penstock.serving.served_pipeline import refuse_unservable

        opened = [open_pipeline(name, settings) for name in self.pipelines]
        for each in opened:
            refuse_unservable(each)
            if sum(other.name == each.name for other in opened) > 1:
                raise ServeRefused(f"two pipelines have the name `{each.name}`", "Name each pipeline once.")
            table = each.destination.table  # by which published scores are looked up
            if sum(other.destination.table == table for other in opened) > 1:
                raise ServeRefused(f"two pipelines write the table `{table}`", "Serve them by two servers.")
        return opened

    def __call__(self) -> "ASGIApp":
        """Return the application. Its models are opened once it runs."""
        import logging

        from penstock.access.token_file import TokenFile
        from penstock.privacy.masking import make_masking
        from penstock.run.partition_options import PartitionOptions
        from penstock.serving.application import ServingApplication
        from penstock.serving.guard import Guard, TokenRate
        from penstock.serving.lookups import Lookups
        from penstock.serving.recorder import open_recorder
        from penstock.serving.served_pipeline import ServedPipeline
        from penstock.web.routes import web_routes

        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO)
        settings = open_settings()
        connect, registry = connector(settings), open_models(settings)
        served = {
            each.name: ServedPipeline(
                each,
                connect,
                registry,
                PartitionOptions(make_masking(each, settings), settings.statement_seconds),
                recorder=open_recorder(each, connect, settings),
            )
            for each in self.open_pipelines(settings)
        }
        address = self.address
        tokens = TokenFile(address.token_file or settings.tokens_file) if address.needs_token else None
        guard = Guard(address.hosts, tokens, TokenRate(self.rate) if self.rate else None)
        lookups = Lookups({name: each.pipeline for name, each in served.items()}, settings, connect, registry)
        return ServingApplication(served, guard, lookups, web_routes(self._make_pages(settings))).build()

    def _make_pages(self, settings: "Settings") -> "WebContext":
        """Return what the pages need. Who reaches only this machine's own address may read them without a token."""
        from penstock.access.token_file import TokenFile
        from penstock.settings import prefect_api_url, prefect_ui_url
        from penstock.web.context import WebContext

        address, api_url = self.address, prefect_api_url()
        return WebContext(
            settings,
            connector(settings),
            open_models(settings),
            TokenFile(address.token_file or settings.tokens_file),
            needs_token=address.needs_token,
            hosts=tuple(host.strip("[]") for host in address.hosts),
            session_key=self.session_key,
            is_secure=address.certificate is not None,
            prefect_api=api_url,
            prefect_ui=prefect_ui_url() or (api_url.removesuffix("/api") if api_url else None),
        )
