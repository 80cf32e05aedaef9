"""`autofocus serve`: serve a model over HTTP, exactly as the published endpoint does."""

from pathlib import Path
from typing import Annotated

import typer

from autofocus.cli.output import command, note


@command
def serve(
    model: Annotated[Path, typer.Argument(help="A model folder, or a run folder.")],
    host: Annotated[str | None, typer.Option(help="Address (default: 127.0.0.1).")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port; 0 takes a free one (default: 5001).")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes (default: number of cores).")
    ] = None,
    api_key_file: Annotated[
        Path | None, typer.Option(help="Bearer keys, one a line (default: none needed).")
    ] = None,
    max_body_mb: Annotated[
        float | None, typer.Option(help="Longest request, MiB (default: 64).")
    ] = None,
    max_megapixels: Annotated[
        float | None, typer.Option(help="Largest image, in millions of pixels.")
    ] = None,
    queue: Annotated[
        int | None, typer.Option(help="Requests that may wait in each worker (default: 64).")
    ] = None,
    timeout_s: Annotated[
        float | None, typer.Option(help="Seconds until a request must start (default: 30).")
    ] = None,
    explain_queue: Annotated[
        int | None, typer.Option(help="Explanations that may wait in each worker (default: 4).")
    ] = None,
    explain_timeout_s: Annotated[
        float | None, typer.Option(help="Seconds until an explanation is done (default: 90).")
    ] = None,
    explain_warm_up: Annotated[
        bool | None,
        typer.Option(
            "--explain-warm-up/--no-explain-warm-up",
            help="Load what explanations need once the server is ready (default: yes).",
        ),
    ] = None,
) -> None:
    """Serve MODEL: POST /score, GET / (health), /ready, /swagger.json. Ctrl-C stops it.

    Limits can also come from the environment, such as AUTOFOCUS_PORT: docs/reference/endpoint.md.
    """
    from autofocus.manifest import read_manifest
    from autofocus.scoring.model_path import resolve_model
    from autofocus.serve.explainer import load_row_explainer
    from autofocus.serve.keys import read_keys
    from autofocus.serve.run import load_scorer
    from autofocus.serve.run import serve as run_server
    from autofocus.serve.settings import MIB, ServerPlan, read_settings

    settings = read_settings(
        {
            "host": host,
            "port": port,
            "workers": workers,
            "api_key_file": api_key_file,
            "max_body_bytes": None if max_body_mb is None else max_body_mb * MIB,
            "max_pixels": None if max_megapixels is None else max_megapixels * 1e6,
            "queue_size": queue,
            "timeout_s": timeout_s,
            "explain_queue_size": explain_queue,
            "explain_timeout_s": explain_timeout_s,
            "explain_warm_up": explain_warm_up,
        }
    )
    folder = resolve_model(model)
    manifest = read_manifest(folder)
    keys = read_keys(settings.api_key_file) if settings.api_key_file else []
    if not keys and settings.host not in ("127.0.0.1", "localhost", "::1"):
        note(f"warning: anybody who reaches {settings.host} may score; see --api-key-file")

    def announce(url: str) -> None:
        note(
            f"Serving {model} ({manifest.task}, {len(manifest.labels)} labels) at {url}/score, "
            f"{settings.workers} worker{'s' if settings.workers > 1 else ''}. Try:\n"
            f"  {_example(url, needs_key=bool(keys))}"
        )

    run_server(ServerPlan(folder, settings, keys, load_scorer, load_row_explainer), announce)


def _example(url: str, *, needs_key: bool) -> str:
    key = " -H 'Authorization: Bearer <key>'" if needs_key else ""
    body = '{"input_data":{"columns":["image"],"data":["%s"]}}'
    return (
        f"printf '{body}' \"$(base64 < photo.jpg | tr -d '\\n')\" | "
        f"curl -H 'Content-Type: application/json'{key} -d @- {url}/score"
    )
