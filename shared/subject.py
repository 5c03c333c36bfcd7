"""Which subject of a photo is meant: a box around it, or points on it and on others."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

MIN_BOX_SIDE = 0.01
MAX_POINTS = 32

Point = tuple[float, float, int]
"""x and y as fractions of the photo; 1: on the subject, 0: on something else."""


class Subject(BaseModel):
    """The subject that is meant, as fractions of the upright photo. Either `box` or `points`."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    box: tuple[float, float, float, float] | None = Field(
        None, description="Left, top, right, bottom: the subject lies within."
    )
    points: tuple[Point, ...] | None = Field(
        None,
        description="`[x, y, 1]` lies on the subject, `[x, y, 0]` on something that stays out; at "
        "most 32.",
    )

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.box is None) == (self.points is None):
            raise ValueError("`subject` needs either `box` or `points`")
        return self

    @model_validator(mode="after")
    def _box_lies_in_the_photo(self) -> Self:
        if self.box is not None:
            left, top, right, bottom = self.box
            if not (0 <= left < right <= 1 and 0 <= top < bottom <= 1):
                raise ValueError(
                    "`subject.box` must be left, top, right, bottom with 0 <= left < right <= 1 "
                    "and 0 <= top < bottom <= 1"
                )
            if min(right - left, bottom - top) < MIN_BOX_SIDE:
                raise ValueError(f"`subject.box` is narrower than {MIN_BOX_SIDE} of the photo")
        return self

    @model_validator(mode="after")
    def _points_lie_in_the_photo(self) -> Self:
        if self.points is not None:
            if not 1 <= len(self.points) <= MAX_POINTS:
                raise ValueError(f"`subject.points` must have 1 to {MAX_POINTS} points")
            for x, y, label in self.points:
                if not (0 <= x <= 1 and 0 <= y <= 1) or label not in (0, 1):
                    raise ValueError(
                        "each of `subject.points` is [x, y, label]: x and y from 0 to 1, label 1 "
                        "for the subject and 0 for others"
                    )
        return self
