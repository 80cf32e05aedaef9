"""Flags of commands that read labelled data, and the options of reading that they mean."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from autofocus.errors import JobError

if TYPE_CHECKING:
    from autofocus.data.options import ReadOptions

DEFAULT_CLASS = "object"

TargetColumn = Annotated[str, typer.Option(help="Column (VIA: attribute) of the labels.")]
ImageColumn = Annotated[str, typer.Option(help="Column of the images.")]
GroupColumn = Annotated[
    str | None,
    typer.Option(help="Column, or field of image_details, of what images belong to: a camera."),
]
ImageRoot = Annotated[Path | None, typer.Option(help="Where relative image_url start.")]
Maps = Annotated[list[str] | None, typer.Option("--map", help="PREFIX=DIR; may be repeated.")]
Coordinates = Annotated[
    Literal["pixels", "fractions"] | None,
    typer.Option(help="What numbers of COCO, VOC and VIA are; default: as they look."),
]
Masks = Annotated[
    Literal["objects", "classes"] | None,
    typer.Option(help="What the numbers in masks are of; default: of objects."),
]
ClassName = Annotated[str, typer.Option(help="Class of objects that have no name: masks, VIA.")]


def read_options(
    target_column: str,
    image_column: str,
    image_root: Path | None,
    maps: list[str] | None,
    class_name: str = DEFAULT_CLASS,
    coordinates: Literal["pixels", "fractions"] | None = None,
    group_column: str | None = None,
    masks: Literal["objects", "classes"] | None = None,
) -> "ReadOptions":
    """Return the options of reading that the flags mean.

    Raises:
        JobError: If a map is no PREFIX=DIR, or the class has no name.
    """
    from autofocus.data.options import ReadOptions

    parsed = {}
    if maps:
        # This import takes a sixth of the command's start-up, and rows alone do without.
        from autofocus.data.images.locate import parse_maps

        parsed = parse_maps(maps)
    if not class_name:
        raise JobError("--class-name must not be empty.")
    return ReadOptions(
        image_column=image_column,
        label_column=target_column,
        image_root=image_root,
        maps=parsed,
        class_name=class_name,
        coordinates=coordinates,
        group_column=group_column,
        masks=masks,
    )
