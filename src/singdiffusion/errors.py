"""The one exception for what a user can get wrong."""


class SingDiffusionError(ValueError):
    """A mistake in the input. Its message is one clear line that names the input and says what would be right."""
