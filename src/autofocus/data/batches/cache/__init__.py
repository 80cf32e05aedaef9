"""Images kept between epochs, within a budget."""

from autofocus.data.batches.cache.budget import CacheBudget, free_budget
from autofocus.data.batches.cache.image_cache import ImageCache
from autofocus.data.batches.cache.ladder import RungName

__all__ = ["CacheBudget", "ImageCache", "RungName", "free_budget"]
