"""Numbers with their nouns: 1 photo, 3 photos."""


def counted(count: int, noun: str) -> str:
    """`1 image`, `2,000 images`; the noun takes an s as its plural."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
