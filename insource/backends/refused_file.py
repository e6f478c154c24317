"""The one exception of the checks of model files.

It is a ValueError: whoever loads a model makes an ArtifactDamaged of it, as of any other value that does not fit.
"""


class RefusedFile(ValueError):
    """A model file that is not let near a native parser; the message says what is wrong with it."""
