"""The switch to the older format of programs."""

from contextlib import nullcontext as OldIrGuard  # noqa: F401, N812
