"""Rendered scenes of four classes of packages, with exact ground truth for all four tasks.

They let users try every step without data of their own. A score on them shows that the steps
work; it says nothing about photographs.
"""

from autofocus.demo.scene import MAX_OBJECTS, Scene, SceneObject, render_scene
from autofocus.demo.things import LABELS
from autofocus.demo.write import write_scenes

__all__ = ["LABELS", "MAX_OBJECTS", "Scene", "SceneObject", "render_scene", "write_scenes"]
