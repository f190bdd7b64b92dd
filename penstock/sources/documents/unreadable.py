"""The error for a document that has no row."""


class UnreadableDocument(ValueError):
    """A document cannot be read. It becomes a refused row."""

    def __init__(self, reason: str, text: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        """What is wrong with it, without a value of it."""
        self.text = text
        """The beginning of its text with the bytes that cannot be read. None if there is none."""
