"""`autofocus serve`: serve a model over HTTP, exactly as the published endpoint does."""

from pathlib import Path
from typing import Annotated, Any

import typer

from autofocus.cli.flags import with_flags
from autofocus.cli.output import command, note
from autofocus.serve.settings import FLAGS, SETTINGS, ServerPlan, Settings, read_settings


@command
@with_flags(FLAGS, SETTINGS, Settings())
def serve(
    model: Annotated[Path, typer.Argument(help="A model folder, or a run folder.")], **flags: Any
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

    settings = read_settings(flags)
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
