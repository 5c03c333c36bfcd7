"""Text as every database keeps it."""


def without_unstorable_text(text: str) -> str:
    """A text without what no database stores: zero bytes, and halves of characters."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode()
