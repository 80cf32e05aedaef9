"""Compare what two commits do for users: `scripts/same OLD NEW [--only NAME…]`.

Each commit is checked out into a worktree and does the same work with this checkout's Python: help,
errors, data, training of every task, a sweep, AutoMode, scoring, serving, explaining. Modules may
have moved between the two, so only the command line, `autofocus.train` and `load`, and files are
used. Each side has one core and one thread, and its own folder of the same shape.

Not compared, because no two runs of one commit agree: seconds, times, process and port numbers,
free memory, ids. Nor `model.onnx` and the code in a package by their bytes: modules move, outputs
do not.
"""

import argparse
import difflib
import fnmatch
import hashlib
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import same_inputs as inputs
from PIL import Image

REPO = Path(__file__).parents[1]
ALLOWED = Path(__file__).with_name("same_allowed.toml")
# Keys of documents that say how long something took, when, or which process it was.
NOT_COMPARED = re.compile(
    r"seconds|seconds_to_first_model|\w+_(s|seconds)|changed|process|started|deadline|eta"
    r"|free_memory_mib"
)
# Speeds and times in what is said while training.
_MEASURED = re.compile(r"\b\d+(\.\d+)?(?= (images/s|s|min|ms)\b)|(?<=all by about )\d\d:\d\d")
_THREADS = ("OMP", "MKL", "OPENBLAS", "NUMBA")
_MAX_DIFF_LINES = 14
_MAX_LINE = 180
_START_S = 120

# Prints the names of all commands, whatever module they are in.
_WALK = """
import json, runpy, sys, typer
def walk(command, path=()):
    below = getattr(command, "commands", {}).items()
    return [path] + [found for name, each in below for found in walk(each, (*path, name))]
def show(app, *_, **__):
    print(json.dumps(walk(typer.main.get_command(app))))
    sys.exit(0)
typer.Typer.__call__ = show
runpy.run_module("autofocus", run_name="__main__")
"""
_API = """
import inspect, json, re, sys, autofocus
print(autofocus.__all__, autofocus.__version__)
for function in (autofocus.train, autofocus.load):
    # A default that is a function has an address.
    print(function.__name__, re.sub(" at 0x[0-9a-f]+", "", str(inspect.signature(function))))
if len(sys.argv) > 1:
    model = autofocus.load(sys.argv[1])
    print(model.labels)
    print(json.dumps(model.score([sys.argv[2]])))
try:
    autofocus.load("nowhere")
except Exception as error:
    print(type(error).__name__, [each.__name__ for each in type(error).__mro__], error)
"""


@dataclass
class Side:
    """One commit: its checkout, where it works, and what was found, by name.

    Attributes:
        name: `old` or `new`.
        tree: The worktree.
        old_tree: That of the old commit; samples come from there for both.
        data: Photos and rows, rendered once.
        core: The one it runs on.
    """

    name: str
    tree: Path
    old_tree: Path
    data: Path
    core: int
    found: dict[str, str] = field(default_factory=dict)

    @property
    def work(self) -> Path:
        """The folder that every command runs in."""
        return self.tree.parent / "work"

    def environment(self) -> dict[str, str]:
        """Return the environment: this commit's source before any installed one."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("AUTOFOCUS_", "PYTHON"))}
        return kept | {
            "PYTHONPATH": str(self.tree / "src"),
            "AUTOFOCUS_CACHE": str(self.tree.parent / "cache"),
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "100",
            "TERM": "dumb",
            "NO_COLOR": "1",
            **{f"{name}_NUM_THREADS": "1" for name in _THREADS},
        }

    def popen(self, *arguments: object, **options: Any) -> "subprocess.Popen[str]":
        """Start this commit's Python, on this side's core."""
        argv = ["taskset", "-c", str(self.core), sys.executable, *map(str, arguments)]
        if not shutil.which("taskset"):
            argv = argv[3:]
        return subprocess.Popen(
            argv, cwd=self.work, env=self.environment(), text=True, encoding="utf-8", **options
        )

    def python(self, *arguments: object) -> "subprocess.CompletedProcess[str]":
        """Run this commit's Python and return what it said."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with self.popen(*arguments, stdin=subprocess.DEVNULL, **pipes) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def command(self, name: str, *arguments: object, is_measured: bool = False) -> str:
        """Run a command of autofocus, keep all it said under a name, and return its stdout."""
        done = self.python("-m", "autofocus", *arguments)
        out = steady(done.stdout)
        err = done.stderr
        if is_measured:
            out, err = (_MEASURED.sub("#", text) for text in (out, err))
        self.keep(name, f"exit status {done.returncode}\n[stdout]\n{out}\n[stderr]\n{err}")
        return done.stdout

    def keep(self, name: str, text: str) -> None:
        """Remember a text, without where this side is."""
        if name in self.found:
            raise ValueError(f"{name!r} is compared twice: give one of them another name")
        text = self.found[name] = text.replace(str(self.tree.parent), "<side>")
        # For a look, with --keep.
        path = self.tree.parent / "found" / f"{name.replace('/', '_')}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8", errors="backslashreplace")

    def keep_files(self, name: str, folder: Path) -> None:
        """Remember which files there are, and what is in them."""
        lines = []
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            # Rows may say where their image is.
            content = path.read_bytes().replace(str(self.tree.parent).encode(), b"<side>")
            lines.append(f"{path.relative_to(folder)} {digest(content)}")
            if path.suffix == ".jsonl":
                lines += content.decode("utf-8", "backslashreplace").splitlines()
        self.keep(name, "\n".join(lines))


def digest(content: bytes) -> str:
    """Return a short name for bytes."""
    return f"{len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()[:16]}"


def steady(text: str) -> str:
    """Return JSON without times, a key a line; any other text as it is."""
    try:
        return json.dumps(without_times(json.loads(text)), indent=1, ensure_ascii=False)
    except ValueError:
        return text


def without_times(value: Any) -> Any:
    """Return a document without what no two runs agree on."""
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if not NOT_COMPARED.fullmatch(k)}
        return {key: without_times(item) for key, item in kept.items()}
    if isinstance(value, list):
        return [without_times(item) for item in value]
    return value


# What is done on each side.


def start(side: Side) -> None:
    """Check that the commit is the one that runs."""
    where = side.python("-c", "import autofocus; print(autofocus.__file__)").stdout.strip()
    if not Path(where).is_relative_to(side.tree):
        raise SystemExit(f"{side.name}: runs {where}, which is not below {side.tree}")
    print(f"{side.name}: {where}", flush=True)


def helps(side: Side) -> None:
    """Ask every command for its help."""
    done = side.python("-c", _WALK)
    commands = json.loads(done.stdout)
    side.keep("commands", "\n".join(" ".join(path) for path in commands))
    for path in commands:
        side.command(" ".join(["help", *path]), *path, "--help")


def python_api(side: Side) -> None:
    """Look at what `import autofocus` gives."""
    done = side.python("-c", _API)
    side.keep("api", done.stdout + done.stderr)


def errors(side: Side) -> None:
    """Give what is wrong: commands, rows, jobs."""
    for name, arguments in inputs.COMMANDS.items():
        side.command(f"error command: {name}", *arguments)
    folder = side.work / "wrong"
    (folder / "images").mkdir(parents=True)
    photo = side.data / inputs.TASKS[0] / "images" / "0000.jpg"
    shutil.copy(photo, folder / "images")
    for name, (task, text) in inputs.row_files(side.old_tree).items():
        path = folder / f"{name.replace(' ', '-')}.jsonl"
        path.write_text(text, encoding="utf-8")
        shown = path.relative_to(side.work)
        side.command(f"error rows: {name}", "data", "check", shown, "--task", task, "--json")
        if name.startswith("wrong"):
            side.command(f"error rows: {name}, as text", "data", "check", shown, "--task", task)
            out = folder / f"{task}-clean"
            side.command(
                f"error rows: {name}, converted",
                *("data", "convert", shown, "--task", task, "-o", out, "--json"),
            )
            side.keep_files(f"error rows: {name}, files", out)
    for name, text in inputs.job_files(side.old_tree, side.data).items():
        path = folder / f"{name.replace(' ', '-')}.yml"
        path.write_text(text, encoding="utf-8")
        shown = path.relative_to(side.work)
        side.command(f"error job: {name}", "train", shown, "--dry-run", "--json", is_measured=True)


def data(side: Side) -> None:
    """Render, check and convert."""
    for task in inputs.TASKS:
        rendered, rows = side.work / "rendered" / task, side.data / task / "annotations.jsonl"
        side.command(f"demo --render {task}", "demo", "--task", task, "--render", rendered, "-n", 3)
        side.keep_files(f"demo --render {task}, files", rendered)
        side.command(f"data check {task}", "data", "check", rows)
        side.command(f"data check {task}, JSON", "data", "check", rows, "--decode", "--json")
        out = side.work / "converted" / task
        side.command(
            f"data convert {task}", *("data", "convert", rows, "-o", out, "--mltable", "--json")
        )
        side.keep_files(f"data convert {task}, files", out)
    side.command("job init", "job", "init", "--data", rows, "-o", "-")


def task_step(task: str) -> Callable[[Side], None]:
    """Return what trains, scores, evaluates, serves and explains one task."""

    def step(side: Side) -> None:
        train(side, task, inputs.task_job(task, side.data))
        score(side, task)
        serve(side, task)
        explain(side, task)

    return step


def train(side: Side, name: str, job: dict[str, Any]) -> None:
    """Train, and keep what the run folder and the package hold."""
    (side.work / f"{name}.yml").write_text(json.dumps(job, indent=1))
    run = Path("runs") / name
    arguments = ("train", f"{name}.yml", "--output-dir", run, "--json")
    side.command(f"train --dry-run {name}", *arguments, "--dry-run", is_measured=True)
    side.command(f"train --json {name}", *arguments, is_measured=True)
    side.command(f"train again {name}", *arguments, is_measured=True)
    side.command(f"train another job {name}", *arguments, "--seed", 4, is_measured=True)
    side.command(f"runs show {name}", "runs", "show", run, is_measured=True)
    side.command(f"runs show --json {name}", "runs", "show", run, "--json")
    folder = side.work / run
    side.keep(f"job.yml of {name}", (folder / "job.yml").read_text())
    for file in ("run.json", "leaderboard.json", "data_check.json", "result.json"):
        side.keep(f"{file} of {name}", steady((folder / file).read_text()))
    lines = (folder / "decisions.jsonl").read_text().splitlines()
    side.keep(f"decisions.jsonl of {name}", "\n".join(steady(line) for line in lines))
    side.keep(f"metrics.jsonl of {name}", "\n".join(_metrics(folder)))
    side.keep(f"best_model of {name}", str(os.readlink(folder / "best_model")))
    _keep_package(side, name, folder / "best_model")


def _metrics(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("trials/*/metrics.jsonl")):
        yield str(path.relative_to(folder))
        yield from (steady(line) for line in path.read_text().splitlines())


def _keep_package(side: Side, name: str, folder: Path) -> None:
    manifest = json.loads((folder / "manifest.json").read_bytes())
    # Its bytes say where the exporter found what; its outputs and the weights are compared.
    manifest["files"]["model.onnx"] = "not compared"
    side.keep(f"manifest.json of {name}", json.dumps(without_times(manifest), indent=1))
    drawn = re.compile(r"^(model_uuid|utc_time_created):.*$", re.MULTILINE)
    side.keep(f"MLmodel of {name}", drawn.sub(r"\1: #", (folder / "MLmodel").read_text()))
    for file in ("requirements.txt", "conda.yaml", "python_env.yaml"):
        side.keep(f"{file} of {name}", (folder / file).read_text())
    side.keep(f"files of {name}", "\n".join(sorted(path.name for path in folder.iterdir())))
    side.keep(f"ONNX outputs of {name}", _outputs(folder / "model.onnx", side.data))


def _outputs(model: Path, photos: Path) -> str:
    """Return what a network says of two photos, to the last bit."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    height, width = given.shape[2:]
    lines = [f"input {given.name} {given.shape}"]
    for path in sorted((photos / inputs.TASKS[0] / "images").iterdir())[:2]:
        pixels = np.asarray(Image.open(path).convert("RGB").resize((width, height)), np.float32)
        image = ((pixels / 255 - 0.45) / 0.225).transpose(2, 0, 1)[None]
        for output, array in zip(
            session.get_outputs(), session.run(None, {given.name: image}), strict=True
        ):
            lines.append(f"{output.name} {array.dtype} {array.shape} {digest(array.tobytes())}")
            lines.append(f"  {np.array2string(array.ravel()[:6], precision=9)}")
    return "\n".join(lines)


def score(side: Side, task: str) -> None:
    """Score and evaluate files."""
    run = Path("runs") / task
    photos = sorted((side.data / f"{task}-test" / "images").iterdir())[:2]
    rows = side.data / f"{task}-test" / "annotations.jsonl"
    done = side.python("-m", "autofocus", "score", run, *photos, "--json")
    side.keep(f"score --json {task}", done.stdout + done.stderr)
    drawn = side.work / "drawn" / task
    side.command(f"score {task}", "score", run, *photos, "--draw", drawn)
    side.keep_files(f"score --draw {task}", drawn)
    side.command(f"evaluate {task}", "evaluate", run, "--data", rows, is_measured=True)
    side.command(f"evaluate --json {task}", "evaluate", run, "--data", rows, "--json")
    done = side.python("-c", _API, run, photos[0])
    side.keep(f"autofocus.load {task}", done.stdout + done.stderr)


def explain(side: Side, task: str) -> None:
    """Explain a file by every algorithm that the task has."""
    finds_objects = task in inputs.TASKS[2:]
    algorithms = ["d_rise"] if finds_objects else ["xrai"]
    if task == inputs.TASKS[0]:
        algorithms += ["integrated_gradients", "guided_gradcam", "guided_backprop"]
    photo = side.data / f"{task}-test" / "images" / "0000.jpg"
    few = ("--num-masks", 16, "--max-boxes", 2) if finds_objects else ("--n-steps", 5)
    for algorithm in algorithms:
        maps = Path("maps") / task / algorithm
        side.command(
            f"explain {algorithm} {task}",
            *("explain", Path("runs") / task, photo, "--algorithm", algorithm, *few),
            *("-o", maps, "--npy", "--json"),
        )
        side.keep_files(f"explain {algorithm} {task}, files", side.work / maps)


def serve(side: Side, task: str) -> None:
    """Ask a running server what clients ask, right and wrong."""
    photo = (side.data / f"{task}-test" / "images" / "0000.jpg").read_bytes()
    kind = {"content-type": "application/json"}
    row = inputs.image_row(photo)
    parameters: dict[str, Any] = {"visualizations": True, "attributions": True, "n_steps": 5}
    if task in inputs.TASKS[2:]:
        parameters = {"xai_algorithm": "d_rise", "visualizations": True, "num_masks": 16}
    why = inputs.image_row(photo, model_explainability=True, xai_parameters=parameters)
    asked = {
        "/score reply": ("POST", "/score", inputs.request(row, row), kind),
        "explain reply": ("POST", "/score", inputs.request(why), kind),
        "/": ("GET", "/", b"", {}),
        "/ready": ("GET", "/ready", b"", {}),
        "/swagger.json": ("GET", "/swagger.json", b"", {}),
    }
    if task == inputs.TASKS[0]:
        wrong = inputs.wrong_requests(photo)
        asked |= {f"error request {name}": parts for name, parts in wrong.items()}
    with _server(side, Path("runs") / task) as port:
        for name, (method, path, body, headers) in asked.items():
            side.keep(f"serve {task}: {name}", _reply(port, method, path, body, headers))


@contextmanager
def _server(side: Side, run: Path) -> Iterator[int]:
    arguments = ("-m", "autofocus", "serve", run, "--port", 0, "--workers", 1)
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    with side.popen(*arguments, **pipes) as process:
        said: list[str] = []
        ready = threading.Event()
        port = 0

        def listen() -> None:
            nonlocal port
            # Read on to the end, or a full pipe would stop the server.
            for line in process.stderr or ():
                said.append(line)
                if match := re.search(r"http://\S+?:(\d+)/score", line):
                    port = int(match[1])
                    ready.set()
            ready.set()

        threading.Thread(target=listen, daemon=True).start()
        try:
            ready.wait(_START_S)
            if not port:
                raise SystemExit(f"{side.name}: the server did not start: {''.join(said)}")
            yield port
        finally:
            process.terminate()


def _reply(port: int, method: str, path: str, body: bytes, headers: dict[str, str]) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_S)
    connection.request(method, path, body, headers)
    reply = connection.getresponse()
    content = reply.read()
    connection.close()
    names = sorted(name.lower() for name, _ in reply.getheaders())
    texts = (f"{reply.status} {reply.getheader('content-type')}", " ".join(names))
    return "\n".join([*texts, content.decode("utf-8", "backslashreplace")])


def sweep(side: Side) -> None:
    """Train several trials and choose."""
    train(side, "sweep", inputs.sweep_job(side.data))
    compared = [Path("runs") / name for name in ("sweep", "sweep")]
    side.command("runs compare", "runs", "compare", *compared, is_measured=True)


def automode(side: Side) -> None:
    """Let AutoMode choose."""
    train(side, "automode", inputs.automode_job(side.data))


STEPS: dict[str, Callable[[Side], None]] = {
    "help": helps,
    "api": python_api,
    "data": data,
    "errors": errors,
    **{task: task_step(task) for task in inputs.TASKS},
    "sweep": sweep,
    "automode": automode,
}


# What is made of it.


@dataclass(frozen=True)
class Allowed:
    """A wanted difference; see `same_allowed.toml`."""

    where: str
    why: str
    old: str = ""
    new: str = ""
    regex: bool = False
    both: bool = False
    only_in: str = ""

    def explains(self, name: str, old: str | None, new: str | None) -> bool:
        """Return whether a comparison that is one-sided is so by this entry."""
        missing = "new" if old is None else "old" if new is None else ""
        return fnmatch.fnmatchcase(name, self.where) and bool(missing) and self.only_in == missing

    def applied(self, name: str, text: str) -> str:
        """Return the old commit's text as this entry lets the new one's be."""
        if self.only_in or not fnmatch.fnmatchcase(name, self.where):
            return text
        if self.regex:
            return re.sub(self.old, self.new, text, flags=re.MULTILINE)
        return text.replace(self.old, self.new)


def read_allowed() -> list[Allowed]:
    """Return the reviewed list."""
    entries = tomllib.loads(ALLOWED.read_text(encoding="utf-8")).get("allowed", [])
    return [Allowed(**entry) for entry in entries]


def verdict(name: str, old: str | None, new: str | None, allowed: list[Allowed]) -> str:
    """Return `equal`, `allowed (why)` or `DIFFERENT` with what differs."""
    if old == new:
        return "equal"
    if old is None or new is None:
        reasons = [entry.why for entry in allowed if entry.explains(name, old, new)]
        return (
            f"allowed ({reasons[0]})"
            if reasons
            else f"DIFFERENT: only in {'old' if old else 'new'}"
        )
    reasons, text = [], old
    for entry in allowed:
        changed = entry.applied(name, text)
        reasons += [entry.why] * (changed != text)
        text = changed
        if entry.both:
            new = entry.applied(name, new)
    if text == new:
        return f"allowed ({'; '.join(reasons)})"
    # What is allowed is no news beside what is not.
    return "DIFFERENT\n" + diff(text, new)


def diff(old: str, new: str) -> str:
    """Return the first lines that differ, each cut to where it does."""
    lines = difflib.unified_diff(_lines(old), _lines(new), "old", "new", n=1, lineterm="")
    first = islice(lines, _MAX_DIFF_LINES)
    shown = [f"    {line[:_MAX_LINE]}" for line in first]
    if next(lines, None) is not None:
        shown.append("    …")
    return "\n".join(shown)


def _lines(text: str) -> list[str]:
    lines = []
    for line in text.splitlines():
        # One long line of JSON shows nothing.
        lines += steady(line).splitlines() if line.startswith(("[", "{")) else [line]
    return lines


def compare(step: str, old: Side, new: Side, allowed: list[Allowed]) -> int:
    """Do one step on both sides, print every comparison, return how many differ."""
    began = time.monotonic()
    for side in (old, new):
        side.found.clear()
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(STEPS[step], (old, new)))
    num_different = 0
    for name in dict.fromkeys([*old.found, *new.found]):
        said = verdict(name, old.found.get(name), new.found.get(name), allowed)
        num_different += said.startswith("DIFFERENT")
        print(f"{name}: {said}", flush=True)
    print(f"-- {step}: {len(old.found)} compared, {time.monotonic() - began:.0f} s", flush=True)
    return num_different


@contextmanager
def checked_out(old: str, new: str, keep: bool) -> Iterator[tuple[Side, Side]]:
    """Yield both commits' sides, with data rendered by the old one."""
    base = Path(tempfile.mkdtemp(prefix="same-")).resolve()
    sides = []
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    try:
        for number, (name, commit) in enumerate((("old", old), ("new", new))):
            tree = base / name / "tree"
            git("worktree", "add", "--quiet", "--detach", str(tree), commit)
            side = Side(
                name, tree, base / "old" / "tree", base / "data", cores[number % len(cores)]
            )
            side.work.mkdir()
            start(side)
            sides.append(side)
        _render(sides[0])
        yield sides[0], sides[1]
    finally:
        for side in sides:
            git("worktree", "remove", "--force", str(side.tree))
        if keep:
            print(f"kept: {base}")
        else:
            shutil.rmtree(base, ignore_errors=True)
        git("worktree", "prune")


def _render(side: Side) -> None:
    for seed, (ending, numbers) in enumerate(
        (("", inputs.NUM_PHOTOS), ("-test", dict.fromkeys(inputs.TASKS, inputs.NUM_TEST_PHOTOS)))
    ):
        for task, number in numbers.items():
            arguments = ("--task", task, "--render", side.data / f"{task}{ending}", "-n", number)
            done = side.python("-m", "autofocus", "demo", *arguments, "--seed", seed)
            if done.returncode:
                raise SystemExit(f"rendering failed: {done.stderr}")


def git(*arguments: str) -> str:
    """Run git in this repository."""
    done = subprocess.run(
        ["git", *arguments], cwd=REPO, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def main() -> int:
    """Return the exit status: 1 when anything is different."""
    parser = argparse.ArgumentParser(
        prog="scripts/same", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("old", metavar="OLD", help="A commit.")
    parser.add_argument("new", metavar="NEW", help="Another.")
    parser.add_argument(
        "--only", nargs="+", choices=STEPS, metavar="NAME", help=f"Of {', '.join(STEPS)}."
    )
    parser.add_argument("--keep", action="store_true", help="Leave runs and models for a look.")
    asked = parser.parse_args()
    commits = [git("rev-parse", "--short", f"{name}^{{commit}}") for name in (asked.old, asked.new)]
    print(f"old {commits[0]}, new {commits[1]}", flush=True)
    began, allowed = time.monotonic(), read_allowed()
    with checked_out(commits[0], commits[1], keep=asked.keep) as (old, new):
        different = [compare(step, old, new, allowed) for step in asked.only or STEPS]
    print(f"{sum(different)} different, after {time.monotonic() - began:.0f} s")
    return 1 if any(different) else 0


if __name__ == "__main__":
    sys.exit(main())
