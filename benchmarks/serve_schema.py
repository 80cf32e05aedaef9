"""The endpoint held to its own description, both versions, by schemathesis (Linux).

    python -m venv /tmp/schema && /tmp/schema/bin/pip install schemathesis
    python benchmarks/serve_schema.py --schemathesis /tmp/schema/bin/schemathesis [--examples 300]

It is no dependency of ours: it brings two dozen packages. Of its checks one is left out: that all
that the description allows is accepted, for it cannot say that a text is an image.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from serve_attacks import HOST, served

KEY = "alpha"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--schemathesis", default="schemathesis", help="the command")
    parser.add_argument("--examples", type=int, default=300, help="requests an operation and phase")
    parser.add_argument("--model", type=Path, help="model folder instead of a random lite0")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    statuses = {}
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder) / "keys"
        keys.write_text(f"{KEY}\n")
        keys.chmod(0o600)
        with served(arguments.model, "--api-key-file", str(keys)) as (server, _):
            for version in ("2", "3"):
                url = f"http://{HOST}:{server.port}/swagger.json?version={version}"
                options = ["--exclude-checks", "positive_data_acceptance", "--continue-on-failure"]
                options += ["--header", f"Authorization: Bearer {KEY}"]
                options += ["--max-examples", str(arguments.examples)]
                options += ["--seed", str(arguments.seed), "--warnings", "off"]
                command = [arguments.schemathesis, "run", url, *options]
                statuses[version] = subprocess.run(command, cwd=folder).returncode
            statuses["SIGTERM"] = server.stop()
    print("| what | exit status |\n|---|---|")
    for what, status in statuses.items():
        print(f"| {what if what == 'SIGTERM' else f'description, version {what}'} | {status} |")
    raise SystemExit(any(statuses.values()))


if __name__ == "__main__":
    main()
