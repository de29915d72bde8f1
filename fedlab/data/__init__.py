"""Where images come from, and how they are spread over clients."""

from fedlab.data.images import ImageData
from fedlab.data.partitions import partition
from fedlab.data.sources import SOURCES, load

__all__ = ["SOURCES", "ImageData", "load", "partition"]
