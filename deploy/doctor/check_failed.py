"""What a check of `matting doctor` raises."""


class CheckFailed(Exception):  # it says what a part is
    """A part does not work; `fix` is what to type or set."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.detail, self.fix = detail, fix
