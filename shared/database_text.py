"""Text that every database can store."""


def without_unstorable_text(text: str) -> str:
    """The text without zero bytes and lone surrogates, which PostgreSQL cannot store."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode()
