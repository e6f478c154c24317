"""Reading and writing traffic files: JSON lines, plain or gzip; nothing else knows their shapes.

It knows no answer space and no text of a specialist: an `Example` holds the request and the answers as they stood.
"""

from insource.traffic.reading import BadLine, Traffic, examples_of_task, read
from insource.traffic.writing import write

__all__ = ["BadLine", "Traffic", "examples_of_task", "read", "write"]
