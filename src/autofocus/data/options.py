"""Options of reading, as a job or a command's flags give them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class ReadOptions:
    """Options of reading a source.

    Attributes:
        image_column: Column with the image's place.
        label_column: Column with the label.
        image_root: Folder that relative image URLs start from and may not leave; the folder of
            the file they stand in when None.
        maps: Datastore name or URL prefix -> folder or fsspec URL.
        class_name: Class of the objects of sources that name none: masks.
        coordinates: What numbers of formats that count pixels are; None where they tell it
            themselves: fractions when all of a source are small.
        masks: What pixels of numbered masks are numbers of; None: of objects, unless they look
            like classes, which is said.
        on_invalid: Whether rows that cannot be used are skipped and reported, or end the reading.
        group_column: Column, or field of `image_details`, with what an image belongs to; None where
            nobody asks.
    """

    image_column: str = "image_url"
    label_column: str = "label"
    image_root: Path | None = None
    maps: Mapping[str, str] = field(default_factory=dict)
    class_name: str = "object"
    coordinates: Literal["pixels", "fractions"] | None = None
    masks: Literal["objects", "classes"] | None = None
    on_invalid: Literal["skip", "error"] = "skip"
    group_column: str | None = None
