"""The exception that a failed check of `matting doctor` raises."""


class CheckFailed(Exception):
    """A check failed; `fix` is the command or setting that repairs it."""

    def __init__(self, detail: str, fix: str) -> None:
        super().__init__(detail)
        self.detail, self.fix = detail, fix
