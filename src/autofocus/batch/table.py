"""The lines of a batch as a table for a notebook: CSV, or Parquet where pyarrow is installed.

Of whole images a row each: `filename, label, score`, the likeliest class, and `prob_<class>`.
Of objects a row each: `filename, label, score, topX, topY, bottomX, bottomY, polygon`; an image
without objects keeps one row without a label. Beside them `error` and, where asked for,
`feature_vector`. Lists are JSON in CSV.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import orjson

from autofocus.batch.stream import pieces
from autofocus.errors import InputError
from autofocus.runtime import whole_file
from autofocus.tasks.responses import CORNERS

Format = Literal["jsonl", "csv", "parquet"]
Row = dict[str, Any]

# Rows that become a group of a Parquet file: all that is in memory at once.
_NUM_ROWS = 10_000


def converter(
    form: Format, labels: Sequence[str], finds_objects: bool, has_features: bool
) -> Callable[[Path, Path], None] | None:
    """Return what makes a table of a file of lines; None for lines themselves.

    Args:
        form: The format.
        labels: Class names of the model.
        finds_objects: Whether the lines hold objects, or classes of whole images.
        has_features: Whether the lines hold feature vectors.

    Raises:
        InputError: If pyarrow is needed and not installed.
    """
    if form == "jsonl":
        return None
    columns: dict[str, str] = {"filename": "text", "label": "text", "score": "number"}
    if finds_objects:
        columns |= {**dict.fromkeys(CORNERS, "number"), "polygon": "outline"}
    else:
        columns |= {f"prob_{label}": "number" for label in labels}
    if has_features:
        columns["feature_vector"] = "vector"
    columns["error"] = "text"
    if form == "csv":
        return partial(_write_csv, columns)
    if find_spec("pyarrow") is None:
        raise InputError(
            "--format parquet needs pyarrow, not installed here. Run pip install '.[parquet]' in "
            "the autofocus checkout, or take --format csv."
        )
    return partial(_write_parquet, columns)


def _write_csv(columns: Mapping[str, str], lines: Path, out: Path) -> None:
    with whole_file(out) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        writer = csv.DictWriter(text, [*columns], restval="", extrasaction="ignore")
        writer.writeheader()
        for row in _rows(lines):
            writer.writerow({name: _cell(value) for name, value in row.items()})
        text.flush()
        # The wrapper would close the file, which is still to be synced.
        text.detach()


def _cell(value: Any) -> Any:
    return orjson.dumps(value).decode() if isinstance(value, list) else value


def _write_parquet(columns: Mapping[str, str], lines: Path, out: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = pa.list_(pa.float32())
    types = {
        "text": pa.string(),
        "number": pa.float32(),
        "vector": numbers,
        "outline": pa.list_(numbers),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    with whole_file(out) as file, pq.ParquetWriter(file, schema) as writer:
        for rows in pieces(_rows(lines), _NUM_ROWS):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))


def _rows(lines: Path) -> Iterator[Row]:
    with lines.open("rb") as file:
        for line in file:
            yield from _rows_of(orjson.loads(line))


def _rows_of(result: Mapping[str, Any]) -> Iterator[Row]:
    shared = {"filename": result["filename"], "feature_vector": result.get("feature_vector")}
    if "error" in result:
        yield {**shared, "error": result["error"]["message"]}
        return
    if "probs" in result:
        named = dict(zip(result["labels"], result["probs"], strict=True))
        label = max(named, key=named.__getitem__)
        probs = {f"prob_{name}": prob for name, prob in named.items()}
        yield {**shared, "label": label, "score": named[label], **probs}
        return
    for item in result["boxes"]:
        found = {"label": item["label"], "score": item["score"], "polygon": item.get("polygon")}
        yield {**shared, **found, **item["box"]}
    if not result["boxes"]:
        yield dict(shared)
