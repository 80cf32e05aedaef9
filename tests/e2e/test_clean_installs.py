"""What is promised of other people's environments, each in a new venv made by the test."""

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def make_venv(folder: Path) -> Path:
    """Return the interpreter of a new, empty venv."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def pip_install(python: Path, *arguments: object) -> None:
    # One pip for all of them: installing it into each takes longer than using it.
    pip = [sys.executable, "-m", "pip", "--python", python]
    command = [*pip, "install", "--quiet", "--no-compile", *arguments]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run_isolated(python: Path, code: str, *arguments: object, cwd: Path) -> str:
    # -I: neither PYTHONPATH nor the current folder may lend a module.
    command = [str(python), "-I", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def small_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv made with `pip install .` alone."""
    python = make_venv(tmp_path_factory.mktemp("small"))
    pip_install(python, "-c", ROOT / "constraints.txt", ROOT)
    return python


def test_small_install_has_no_torch(small_python: Path, tmp_path: Path) -> None:
    names = ("torch", "timm", "mlflow")
    code = f"import importlib.util as u; print([n for n in {names} if u.find_spec(n)])"
    assert run_isolated(small_python, code, cwd=tmp_path).strip() == "[]"


def test_small_install_scores_and_checks(
    small_python: Path, model_folder: Path, photo_folder: Path, tmp_path: Path
) -> None:
    photo = photo_folder / "red" / "0.png"
    command = [str(small_python), "-I", "-m", "autofocus"]
    scored = subprocess.run(
        [*command, "score", str(model_folder), str(photo), "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert scored.returncode == 0, scored.stderr
    (reply,) = json.loads(scored.stdout)
    assert reply["labels"] == ["blue", "green", "red"]
    checked = subprocess.run(
        [*command, "data", "check", str(photo_folder), "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr
    assert json.loads(checked.stdout)["num_valid"] == 24


def test_training_without_torch_says_what_to_install(
    small_python: Path, photo_folder: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [
            str(small_python),
            "-I",
            "-m",
            "autofocus",
            "train",
            "--task",
            "image_classification",
            "--data",
            str(photo_folder),
        ],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install '.[train]'" in done.stderr
    assert "Traceback" not in done.stderr


SERVE = """
import json, socket, subprocess, sys, time, urllib.request
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
command = [sys.executable, "-I", "-m", "autofocus", "serve", sys.argv[1], "--port", str(port)]
server = subprocess.Popen(command + ["--workers", "1"], stderr=subprocess.DEVNULL)
request = urllib.request.Request(
    f"http://127.0.0.1:{port}/score",
    json.dumps({"input_data": {"columns": ["image"], "data": [sys.argv[2]]}}).encode(),
    headers={"Content-Type": "application/json"},
)
for _ in range(600):
    try:
        print(urllib.request.urlopen(request).read().decode())
        break
    except urllib.error.URLError:
        time.sleep(0.05)
server.terminate()
sys.exit(server.wait(20))
"""


def test_small_install_serves(
    small_python: Path, model_folder: Path, photo_folder: Path, tmp_path: Path
) -> None:
    photo = (photo_folder / "red" / "0.png").read_bytes()
    output = run_isolated(
        small_python, SERVE, model_folder, base64.b64encode(photo).decode(), cwd=tmp_path
    )
    (reply,) = json.loads(output)
    assert len(reply["probs"]) == 3


MLFLOW = """
import json, sys, warnings
warnings.simplefilter("ignore")
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
import autofocus
assert autofocus.__file__.startswith(sys.argv[1]), autofocus.__file__
photo = open(sys.argv[2], "rb").read()
import base64
text = base64.encodebytes(photo).decode()
explain = json.dumps({"image_base64": text, "model_explainability": False})
replies = [
    model.predict(pd.DataFrame({"image": [value]})) for value in (photo, text, explain)
]
assert replies[0] == replies[1] == replies[2], replies
asked = explain.replace("false", "true")
try:
    model.predict(pd.DataFrame({"image": [text, asked]}))
except Exception as error:
    assert "pip install '.[train]'" in str(error), error
else:
    raise AssertionError("a package explains nothing")
assert not {"torch", "cloudpickle_model"} & set(sys.modules)
print(json.dumps(replies[0]))
"""


def test_package_loads_with_mlflow_and_its_own_requirements_only(
    model_folder: Path, photo_folder: Path, tmp_path: Path
) -> None:
    python = make_venv(tmp_path / "venv")
    pip_install(python, "-r", model_folder / "requirements.txt")
    photo = photo_folder / "red" / "0.png"
    output = run_isolated(python, MLFLOW, model_folder, photo, cwd=tmp_path)
    (reply,) = json.loads(output.splitlines()[-1])
    assert reply["labels"] == ["blue", "green", "red"]
    assert abs(sum(reply["probs"]) - 1) < 1e-6
