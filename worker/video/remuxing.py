"""Copying a stream of packets from one file into another of the same container."""

from typing import Any

FRAME_RATE_HINT = 30
"""Told to encoders and muxers that plan by it; the times of the frames are exact without it."""


def add_copy(out: Any, video: Any) -> Any:
    """Add a video stream to the container `out`, for packets of the stream `video`."""
    stream = out.add_stream_from_template(video, opaque=False)
    # The tag tells ProRes 4444 from ProRes 422, which has no transparency.
    stream.codec_context.codec_tag = video.codec_context.codec_tag
    # With a rate, WebM stores the length of each frame that differs from it.
    stream.codec_context.framerate = FRAME_RATE_HINT
    stream.metadata.update(video.metadata)  # WebM's mark of transparency
    return stream
