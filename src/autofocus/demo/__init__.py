"""Rendered scenes of four kinds of package, exact ground truth for all four tasks, no assets.

Made to try the whole road without data of one's own. A score on them says that the road works;
it says nothing about photographs.
"""

from autofocus.demo.scene import MAX_OBJECTS, Scene, SceneObject, render_scene
from autofocus.demo.things import LABELS
from autofocus.demo.write import write_scenes

__all__ = ["LABELS", "MAX_OBJECTS", "Scene", "SceneObject", "render_scene", "write_scenes"]
