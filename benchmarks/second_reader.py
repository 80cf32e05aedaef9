"""What we read from a source beside what another library reads from it.

    python benchmarks/second_reader.py --readers VENV/bin/python --data ../shared/data \
        --samples ../shared/faults/formats

`second_reader_peers.py` runs in the readers' venv and says what it wants. Real sets and samples of
formats are compared image by image: numbers of objects, classes, boxes to 0.01 px, areas of
outlines, or the pixels in them, to a thousandth. Ends with 1 where something differs and no rule
says why. Sets in other formats are made of coco128 by those libraries, not by us.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autofocus.data.images.header import read_header
from autofocus.data.options import ReadOptions
from autofocus.data.rows.records import RECORD_TYPES
from autofocus.data.sources.find import find_source, find_splits, infer_tasks
from autofocus.data.sources.read import read_data
from autofocus.errors import DataError

PEERS = Path(__file__).with_name("second_reader_peers.py")
MAX_BOX_PX, MAX_AREA = 0.01, 1e-3
CLASS, CLASSES, BOXES, OUTLINES = RECORD_TYPES
SAME = (0.0, 0.0, 0.0, 0.0)
# Pascal VOC counts pixels from 1, and the last one belongs to the box.
FROM_ONE = (-1.0, -1.0, 0.0, 0.0)


@dataclass(frozen=True)
class Case:
    """A source and who reads it.

    Attributes:
        name: Name in the table.
        source: What we read.
        task: As which task.
        reader: Name of a reader of `second_reader_peers.readers`.
        path: What the reader reads; None: the source.
        thinnest: Side in pixels up to which a box is empty, after the shift.
        unlabelled: Images without annotations that the reader alone reads, at most.
        shift: What is added to the reader's (left, top, right, bottom), in pixels.
        why: Who is right where a shift is needed.
        options: Columns and maps.
    """

    name: str
    source: Path
    task: str
    reader: str
    path: Path | None = None
    thinnest: float = 0.0
    unlabelled: int = 0
    shift: tuple[float, float, float, float] = SAME
    why: str = ""
    options: ReadOptions = field(default_factory=ReadOptions)


def real_sets(data: Path, made: Path) -> Iterator[Case]:
    coco, file = data / "coco128", data / "coco128/instances.json"
    bccd, fridge = data / "bccd-voc", data / "fridge-detection-voc"
    yield Case(
        *("bccd-voc", bccd, BOXES, "datumaro voc_detection", made / "bccd"),
        thinnest=1,
        shift=FROM_ONE,
        why="takes xmin for an edge; VOC counts from 1",
    )
    yield Case("bccd-voc", bccd, BOXES, "supervision voc", thinnest=1)
    yield Case("fridge-detection-voc", fridge, BOXES, "supervision voc of labelImg")
    for task in (BOXES, OUTLINES):
        yield Case("coco128", coco, task, "pycocotools", file)
        yield Case("coco128", coco, task, "datumaro coco_instances", made / "coco128")
    yield Case("coco128", coco, BOXES, "supervision coco", file)
    yield Case("nuclei-masks", data / "nuclei-masks", OUTLINES, "numpy")
    table = data / "fridge-multilabel/labels.csv"
    yield Case("fridge-multilabel", data / "fridge-multilabel", CLASSES, "csv labels", table)
    yield Case("fridge-multiclass", data / "fridge-multiclass", CLASS, "supervision folders")
    # What loses nothing on the way is compared with what it was made of: the others leave out
    # crowds, or write whole pixels.
    for name in ("coco by datumaro", "coco by supervision", "yolo by supervision"):
        yield Case(f"coco128, {name}", made / name, BOXES, "pycocotools", file)
    name = "coco by datumaro"
    yield Case(f"coco128, {name}", made / name, OUTLINES, "pycocotools", file)
    name = "yolo by datumaro"
    yield Case(f"coco128, {name}", made / name, BOXES, "datumaro yolo")
    name = "yolo splits by datumaro"
    yield Case(f"coco128, {name}", made / name, BOXES, "datumaro yolo")
    name = "coco splits by datumaro"
    yield Case(f"coco128, {name}", made / name, BOXES, "pycocotools", file)
    name = "ultralytics by datumaro"
    yield Case(f"coco128, {name}", made / name, BOXES, "datumaro yolo", made / "yolo by datumaro")
    name = "yolo by supervision"
    yield Case(f"coco128, {name}", made / name, BOXES, "supervision yolo")
    # No XML for images without objects: listed, but without a file, they are an error here.
    name, reader = "voc by datumaro", "datumaro voc_detection"
    yield Case(f"coco128, {name}", made / name, BOXES, reader, unlabelled=2)
    name = "voc by supervision"
    yield Case(f"coco128, {name}", made / name, BOXES, "supervision voc", thinnest=1)


def samples(folder: Path) -> Iterator[Case]:
    for split in ("train", "val", "test"):
        file = folder / f"coco_all_crowd/annotations/instances_{split}.json"
        yield Case(f"coco_all_crowd/{split}", file, OUTLINES, "pycocotools")
    yield Case("coco_all_crowd", folder / "coco_all_crowd", OUTLINES, "datumaro coco_instances")
    file = folder / "coco_classification/annotations.json"
    yield Case("coco_classification", file, CLASSES, "pycocotools")
    yield Case("coco_normalised", folder / "coco_normalised/annotations.json", BOXES, "pycocotools")
    file = folder / "coco_normalised_polygon/annotations.json"
    yield Case("coco_normalised_polygon", file, OUTLINES, "pycocotools")
    yield Case("csv_onehot", folder / "csv_onehot/train.csv", CLASSES, "csv flags")
    yield Case("csv_split_col", folder / "csv_split_col/data.csv", CLASS, "csv label")
    yield Case("csv_x1y1x2y2", folder / "csv_x1y1x2y2/labels.csv", BOXES, "csv boxes")
    yield Case("darknet_splits", folder / "darknet_splits", BOXES, "datumaro yolo")
    yield Case(
        "hf_imagefolder", folder / "folder_fallback/hf_imagefolder_metadata", CLASS, "json images"
    )
    yield Case("jsonl_split_folders", folder / "jsonl_split_folders", CLASS, "json rows")
    yield Case("masks_of_classes", folder / "masks_of_classes", OUTLINES, "numpy")
    manifest = ReadOptions("source-ref", "anomaly", maps={"s3://b": str(folder / "sagemaker_cls")})
    yield Case(
        "sagemaker_cls",
        folder / "sagemaker_cls/output.manifest",
        CLASS,
        "json manifest",
        options=manifest,
    )
    yield Case("voc_zero_based", folder / "voc_zero_based", BOXES, "datumaro roboflow_voc")
    yield Case("yolo_obb", folder / "yolo_obb", BOXES, "supervision obb")
    yield Case("yolo_pose_no_kpt_shape", folder / "yolo_pose_no_kpt_shape", BOXES, "text yolo")


def refused(folder: Path) -> Iterator[Path]:
    """Yield the samples that are for others to read, and are named by us."""
    yield folder / "cvat_xml_as_voc"
    for sample in sorted((folder / "folder_fallback").iterdir()):
        if sample.name != "hf_imagefolder_metadata":
            yield sample


def ours(case: Case) -> tuple[str, dict[str, list[tuple[str, Any, Any]]]]:
    """Return the format and (class, box, rings) of the objects by image, in pixels."""
    record_type = RECORD_TYPES[case.task]
    parts = [*find_splits(case.source).values()] or [case.source]
    kind = find_source(parts[0], case.options, record_type).kind
    found = {}
    for part in parts:
        data = read_data(part, record_type, case.options)
        for record, place in zip(data.records, data.locations, strict=True):
            header = read_header(Path(place).read_bytes())
            key = "/".join(Path(place).parts[-2:]) if kind == "folder" else Path(place).stem
            found[key] = [*objects_of(record, header.width, header.height)]
    return kind, found


def objects_of(record: Any, width: int, height: int) -> Iterator[tuple[str, Any, Any]]:
    for item in [record.label] if isinstance(record.label, str) else record.label:
        if isinstance(item, str):
            yield item, None, None
        elif hasattr(item, "polygon"):
            rings = [
                [n * (height if i % 2 else width) for i, n in enumerate(ring)]
                for ring in item.polygon
            ]
            xs, ys = (
                [n for ring in rings for n in ring[::2]],
                [n for ring in rings for n in ring[1::2]],
            )
            yield item.label, (min(xs), min(ys), max(xs), max(ys)), rings
        else:
            box = (
                item.top_x * width,
                item.top_y * height,
                item.bottom_x * width,
                item.bottom_y * height,
            )
            yield item.label, box, None


def verdict(case: Case, row: dict[str, Any]) -> str:
    if row["problems"]:
        return f"DIFFERS: {row['problems'][0]} (of {len(row['problems'])})"
    if case.task == BOXES and row["box_px"] > MAX_BOX_PX:
        return "DIFFERS: boxes"
    if row["area"] > MAX_AREA:
        return "DIFFERS: areas"
    notes = [f"{row['empty']} empty boxes left out"] if row["empty"] else []
    if case.shift != SAME:
        moved = ", ".join(f"{number:+g}" for number in case.shift)
        notes.append(f"theirs moved by {moved}: {case.reader.split()[0]} {case.why}")
    return "; ".join(["same", *notes])


def table(cases: list[Case], python: str, folder: Path) -> Iterator[str]:
    """Yield a line a case."""
    read = [ours(case) for case in cases]
    questions = [
        {
            "reader": case.reader,
            "path": str((case.path or case.source).resolve()),
            "shift": case.shift,
            "thinnest": case.thinnest,
            "unlabelled": case.unlabelled,
            "ours": found,
        }
        for case, (_, found) in zip(cases, read, strict=True)
    ]
    file = folder / "cases.json"
    file.write_text(json.dumps(questions))
    command = [python, str(PEERS), "compare", str(file)]
    answers = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    for case, (kind, _), line in zip(cases, read, answers.splitlines(), strict=True):
        row = json.loads(line)
        both = [
            " ".join(map(str, dict.fromkeys(row[key]))) for key in ("images", "objects", "classes")
        ]
        numbers = f"{both[0]:>8}{both[1]:>12}{both[2]:>9}"
        box = f"{row['box_px']:.4f}" if case.task == BOXES else "-"
        area = f"{row['area']:.5f}" if case.task == OUTLINES else "-"
        task = case.task.removeprefix("image_")[:21]
        names = f"{case.name:33}{kind:12}{task:22}{case.reader:28}"
        yield f"{names}{numbers}{box:>9}{area:>9}  {verdict(case, row)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readers", required=True, help="Python of the venv with the readers")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--samples", type=Path, default=Path("../shared/faults/formats"))
    arguments = parser.parse_args()
    print(
        f"{'source':33}{'format':12}{'task':22}{'reader':28}{'images':>8}{'objects':>12}{'classes':>9}"
        f"{'box px':>9}{'area':>9}  verdict (two numbers: ours, theirs)"
    )
    differs = False
    with tempfile.TemporaryDirectory() as name:
        made = Path(name)
        subprocess.run(
            [arguments.readers, str(PEERS), "make", str(arguments.data), name], check=True
        )
        cases = [*real_sets(arguments.data, made), *samples(arguments.samples)]
        for line in table(cases, arguments.readers, made):
            print(line, flush=True)
            differs = differs or "DIFFERS" in line
    for sample in refused(arguments.samples):
        try:
            tasks = infer_tasks(find_source(sample, ReadOptions()), ReadOptions())
            said, differs = f"DIFFERS: read as {', '.join(tasks)}", True
        except DataError as error:
            said = f"refused: {str(error).partition(': ')[2][:90]}"
        print(f"{sample.name:33}{'-':12}{'-':22}{'-':28}{'':47}  {said}")
    if differs:
        sys.exit(1)


if __name__ == "__main__":
    main()
