"""Text as every database keeps it."""


def storable(text: str) -> str:
    """A text without what no database stores: zero bytes, and halves of characters."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode()
