"""What a codec thread does with one image: decode and prepare it, compose and encode its results.

Suspects, mattes from the API and background pictures are decoded in child processes.
"""

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from shared.errors import ImageError, InvalidMatteError
from shared.groups import GroupFrame, GroupWork
from shared.jobs import Reason, known_reasons
from shared.kept_files import output_with_matte
from shared.options import ColourProfile, Profile
from shared.photo_kinds import HEAD_BYTES, photo_kind
from shared.settings import Settings
from worker.concurrency.watchdog import Watchdog
from worker.imaging.arrays import Image
from worker.imaging.decoding import DecodedImage, decode, decoding_cost, without_white
from worker.imaging.false_holes import fill_false_holes
from worker.imaging.finishing import (
    finish_matte,
    matte_of,
    metadata_to_keep,
    min_decode_side_px,
    pixels_to_finish,
)
from worker.imaging.group_frame import is_held, measure_box
from worker.imaging.kept_files import KeptFiles
from worker.imaging.matte import subject_box
from worker.imaging.metadata import NO_METADATA
from worker.imaging.png_file import encode_png
from worker.imaging.quarantine import DecodeRequest, Quarantine
from worker.pipeline.in_flight import BatchPredictor, InFlightImage, ObjectStore
from worker.pipeline.meant_subject import seen_by_network

QUARANTINED_KINDS = frozenset({"HEIF", "AVIF"})
"""Kinds that are always decoded in a child process. Their decoders are those of films: large, and
they take the size from the packed pixels, whatever the header says.
"""


class ImageStages:
    """The stages decode and finish. Thread-safe; close it after the last image."""

    def __init__(
        self,
        predictor: BatchPredictor,
        store: ObjectStore,
        settings: Settings,
        watchdog: Watchdog,
    ) -> None:
        self._predictor = predictor
        self._store = store
        self._settings = settings
        self._watchdog = watchdog
        self._quarantine = Quarantine(settings)

    def close(self) -> None:
        """End the child processes."""
        self._quarantine.close()

    def pixels(self, in_flight: InFlightImage, data: bytes) -> int:
        """The pixels that the image needs from the budget: its photo or a larger canvas, times what
        its stages take more than those of an ordinary photo. An image that fails, because it has
        too many pixels or none, needs none.
        """
        options = in_flight.item.options
        photo = decoding_cost(data, _min_side_px(in_flight))
        if not 0 < photo.pixels <= self._settings.max_image_pixels:
            return 0
        decoding = photo.pixels * photo.times
        finishing = pixels_to_finish(options, photo.width, photo.height)
        if in_flight.given_matte is not None:
            matte = decoding_cost(in_flight.given_matte)
            decoding += matte.pixels * matte.times
            finishing += matte.pixels
        return max(decoding, finishing)

    def decode(self, in_flight: InFlightImage, data: bytes) -> None:
        """Decode a photo and prepare it for the network; an error is the image's."""
        in_flight.stage("decode", lambda: self._decode_and_prepare(in_flight, data))

    def _decode_and_prepare(self, in_flight: InFlightImage, data: bytes) -> None:
        options = in_flight.item.options
        request = DecodeRequest(
            _min_side_px(in_flight), options.colour_profile is ColourProfile.KEEP
        )
        if needs_quarantine(in_flight, data):
            decoded = self._quarantine.decode(data, request)
        else:
            with self._watchdog.watching(in_flight.item.item_id, "decode"):
                decoded = decode(
                    data,
                    self._settings,
                    min_side_px=request.min_side_px,
                    keep_profile=request.keep_profile,
                )
        in_flight.metadata = metadata_to_keep(data, options)
        in_flight.outcome.width, in_flight.outcome.height = decoded.width, decoded.height
        in_flight.decoded = decoded
        if in_flight.given_matte is not None:
            in_flight.matte = self._decode_matte(in_flight.given_matte, decoded)
            in_flight.given_matte = None
            return
        if options.keep_alpha and decoded.alpha is not None:
            in_flight.matte = decoded.alpha
            in_flight.decoded = without_white(decoded)
            if not decoded.alpha.any():
                in_flight.outcome.review = (Reason.EMPTY,)
            return
        if in_flight.group_matte is not None:
            in_flight.matte = _matte_of_file(in_flight.group_matte, decoded)
            in_flight.group_matte = None
            if in_flight.matte is not None:
                return
        seen = seen_by_network(in_flight)
        in_flight.prepared = self._predictor.prepare(seen, options.profile)

    def _decode_matte(self, data: bytes, decoded: DecodedImage) -> Image:
        """A matte that came through the API [H, W] uint8, decoded in a child process. Raises
        InvalidMatteError.
        """
        try:
            pixels = self._quarantine.decode(data, DecodeRequest()).image
        except ImageError as error:
            raise InvalidMatteError(f"The matte can't be read: {error.detail}") from error
        if pixels.shape[:2] != (decoded.height, decoded.width):
            raise InvalidMatteError(
                f"The matte has {pixels.shape[1]} x {pixels.shape[0]} pixels, the photo"
                f" {decoded.width} x {decoded.height}"
            )
        return np.ascontiguousarray(pixels[..., 0])

    def measure(self, in_flight: InFlightImage) -> None:
        """Finish the matte and measure its subject, for the photo's group; an error is the
        image's.
        """
        with self._watchdog.watching(in_flight.item.item_id, "finish"):
            in_flight.stage("finish", lambda: self._measure(in_flight))

    def _measure(self, in_flight: InFlightImage) -> None:
        matte = _finished_matte(in_flight)
        measured = measure_box(matte)
        in_flight.group_matte = encode_png(matte, NO_METADATA)
        in_flight.outcome.measured = replace(measured, photo_crc32=in_flight.photo_crc32)

    def finish(self, in_flight: InFlightImage) -> None:
        """Compose and encode the results; an error is the image's. The time limit begins anew with
        each file, and with each try of `max_bytes`.
        """
        with self._watchdog.watching(in_flight.item.item_id, "finish") as turned:

            def goes_on() -> None:
                turned()
                in_flight.goes_on()

            in_flight.stage("finish", lambda: self._compose(in_flight, goes_on))

    def _compose(self, in_flight: InFlightImage, goes_on: Callable[[], None]) -> None:
        decoded, options = in_flight.decoded, in_flight.item.options
        assert decoded is not None
        matte = _finished_matte(in_flight)
        in_flight.kept = KeptFiles(
            wants_thumbnails=self._settings.thumbnails,
            wants_matte=self._settings.keep_mattes
            and in_flight.item.matte_key is None
            and output_with_matte(options) is None,
        )
        in_flight.files = finish_matte(
            decoded,
            matte,
            options,
            photo=in_flight.item.photo,
            metadata=in_flight.metadata,
            pictures=in_flight.pictures,
            timings_ms=in_flight.outcome.timings_ms,
            kept=in_flight.kept,
            group_frame=_frame_of(in_flight),
            goes_on=goes_on,
        )
        _tell_of_group(in_flight, matte)
        in_flight.outcome.output_bytes = len(in_flight.files[0].data)

    def read_picture(self, bucket: str, key: str) -> Image:
        """A background picture [H, W, 3] uint8. Raises ImageError, TransientError."""
        data = self._store.get(bucket, key, self._settings.max_image_bytes)
        # Decoded in quarantine: every batch of the job reads the picture, so a picture that crashes
        # native code would end one worker after another.
        return self._quarantine.decode(data, DecodeRequest()).image


def _finished_matte(in_flight: InFlightImage) -> Image:
    """The matte [H, W] uint8 of the decoded photo's size."""
    if in_flight.matte is not None:
        return in_flight.matte
    assert in_flight.decoded is not None
    assert in_flight.prepared is not None
    assert in_flight.alpha is not None
    alpha, options = in_flight.alpha, in_flight.item.options
    if options.profile is Profile.FAST and options.subject is None:
        content = in_flight.prepared.without_padding(alpha)
        filled = fill_false_holes(content, in_flight.decoded.small)
        alpha = filled.alpha
        if filled.unclear and Reason.UNSURE not in in_flight.outcome.review:
            in_flight.outcome.review = (*in_flight.outcome.review, Reason.UNSURE)
    return matte_of(in_flight.decoded, in_flight.prepared, alpha, options)


def _matte_of_file(data: bytes, decoded: DecodedImage) -> Image | None:
    """The matte that the first pass stored; None: it does not fit the photo."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    if pixels is None or pixels.shape != decoded.image.shape[:2]:
        return None
    return pixels.astype(np.uint8, copy=False)


def _frame_of(in_flight: InFlightImage) -> GroupFrame | None:
    group = in_flight.item.group
    return group.frame if isinstance(group, GroupWork) else None


def _tell_of_group(in_flight: InFlightImage, matte: Image) -> None:
    """Repeat the review marks of the first pass, and mark a subject that the frame cuts off."""
    group, frame = in_flight.item.group, _frame_of(in_flight)
    if not isinstance(group, GroupWork) or frame is None:
        return
    outcome = in_flight.outcome
    if group.measured is not None and outcome.model is None:
        found = known_reasons(group.measured.reasons)
        outcome.review = tuple(dict.fromkeys([*found, *outcome.review]))
        outcome.model = group.measured.model
    crops = any(not rendition.only_shrinks for rendition in in_flight.item.options.renditions)
    if crops and not is_held(matte.shape, subject_box(matte), frame):
        outcome.review = (*outcome.review, Reason.OUTSIDE)


def _min_side_px(in_flight: InFlightImage) -> int | None:
    """As `min_decode_side_px`. What a person painted is rendered at the photo's full size."""
    if in_flight.item.matte_key is not None:
        return None
    return min_decode_side_px(in_flight.item.options)


def needs_quarantine(in_flight: InFlightImage, data: bytes) -> bool:
    """Whether a photo is decoded in a child process: suspects, and kinds of film codecs."""
    return in_flight.item.suspect or photo_kind(data[:HEAD_BYTES]) in QUARANTINED_KINDS
