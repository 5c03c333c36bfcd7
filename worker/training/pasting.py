"""Pastes a subject on a background, with a shadow or a reflection."""

import cv2
import numpy as np

from worker.training.arrays import Alpha, Colour

SHARE_ONE_TONE = 0.15
"""Share of the pasted subjects whose tone is moved close to the background's, like white on white.
"""


def paste(
    rng: np.random.Generator,
    colour: Colour,
    alpha: Alpha,
    subject: Colour,
    matte: Alpha,
) -> tuple[Colour, Alpha]:
    """Paste one subject over the picture, with a shadow or a reflection below it."""
    height, width = alpha.shape
    h, w = matte.shape
    span = rng.uniform(0.35, 1.0) if rng.random() < 0.8 else rng.uniform(0.9, 1.7)
    scale = span * min(height / h, width / w)
    turn = rng.normal(0, 0.12) if rng.random() < 0.7 else rng.uniform(0, 2 * np.pi)
    flip = -1.0 if rng.random() < 0.5 else 1.0
    linear = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) * scale
    linear[:, 0] *= flip
    spread = 0.1 if span < 1 else 0.2
    centre = np.array([width, height]) * (0.5 + rng.normal(0, spread, 2).clip(-0.25, 0.25))
    shift = centre - linear @ np.array([w / 2, h / 2])
    matrix = np.concatenate([linear, shift[:, None]], 1)
    flags = cv2.INTER_AREA if scale < 0.5 else cv2.INTER_LINEAR
    moved = cv2.warpAffine(
        subject, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    mask = cv2.warpAffine(matte, matrix, (width, height), flags=flags, borderValue=0)
    mask = mask.astype(np.float32)[..., None]
    moved = moved * rng.uniform(0.75, 1.2) + rng.uniform(-20, 20)
    if rng.random() < SHARE_ONE_TONE and mask.sum() > 100:
        mean = (moved * mask).sum((0, 1)) / mask.sum()
        moved = moved + (colour.mean((0, 1)) - mean) * rng.uniform(0.6, 0.9)
    ground = shadowed(rng, colour, mask[..., 0])
    result = mask * np.clip(moved, 0, 255) + (1 - mask) * ground
    return result.astype(np.float32), (1 - (1 - alpha) * (1 - mask[..., 0])).astype(np.float32)


def shadowed(rng: np.random.Generator, colour: Colour, mask: Alpha) -> Colour:
    """Draw the shadow or the mirror image of a shape [H, W] on a background, or nothing."""
    height, width = mask.shape
    size = max(height, width)
    kind = rng.random()
    if kind < 0.3:
        return colour
    if kind < 0.4:  # mirror image below the subject, as on glossy tables
        rows = np.where(mask.max(1) > 0.5)[0]
        if len(rows):
            bottom = rows.max()
            fading = np.zeros_like(mask)
            depth = min(height - 1 - bottom, bottom)
            if depth > 2:
                fade = np.linspace(rng.uniform(0.1, 0.4), 0, depth, dtype=np.float32)
                fading[bottom + 1 : bottom + 1 + depth] = (
                    mask[bottom - depth + 1 : bottom + 1][::-1] * fade[:, None]
                )
                return (colour * (1 - fading[..., None])).astype(np.float32)
    if kind < 0.75:  # shadow to one side
        offset = rng.normal(0, 0.035, 2) * size
        matrix = np.array([[1, rng.normal(0, 0.08), offset[0]], [0, 1, offset[1]]])
        shade = cv2.warpAffine(mask, matrix, (width, height))
        shade = cv2.GaussianBlur(shade, (0, 0), rng.uniform(0.006, 0.05) * size)
    else:  # contact shadow: a dark line along the lower edge
        down = np.array([[1, 0, 0], [0, 1, 0.02 * size]])
        lower = cv2.warpAffine(mask, down, (width, height))
        shade = cv2.GaussianBlur(
            np.clip(lower - mask, 0, 1), (0, 0), rng.uniform(0.004, 0.02) * size
        )
        shade = np.minimum(1, shade * 1.6)
    return (colour * (1 - shade * rng.uniform(0.15, 0.65))[..., None]).astype(np.float32)


def clean_colour(colour: Colour, alpha: Alpha) -> Colour:
    """The subject's own colours [H, W, 3].

    At its edge the old background shows through. These pixels get the colours of opaque pixels
    nearby.
    """
    whole = (alpha > 0.95).astype(np.float32)
    sigma = max(1.5, 0.006 * max(alpha.shape))
    weight = cv2.GaussianBlur(whole, (0, 0), sigma)[..., None]
    near = cv2.GaussianBlur(colour * whole[..., None], (0, 0), sigma) / np.maximum(weight, 1e-4)
    use = (weight > 0.01) & (whole[..., None] == 0)
    return np.where(use, near, colour).astype(np.float32)
