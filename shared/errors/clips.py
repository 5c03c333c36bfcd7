"""Errors of one clip: trying again cannot help. It fails, the others continue."""

from shared.errors.images import ImageError


class ClipError(ImageError):
    """The clip cannot be processed."""

    code = "invalid-clip"
    remedy = "Replace the file and submit it again."


class NotAClipError(ClipError):
    """The file is not an MP4, MOV, WebM, MKV or GIF clip."""

    code = "not-a-clip"
    remedy = "Send an MP4, MOV, WebM, MKV or GIF file; the content decides, not the file name."


class NoVideoStreamError(ClipError):
    """The file holds no video, only sound or data."""

    code = "no-video-stream"
    remedy = "Export the clip again with its picture, as MP4 with H.264 for example."


class EncryptedClipError(ClipError):
    """The clip is encrypted (DRM)."""

    code = "encrypted-clip"
    remedy = "Export it without encryption, and send that."


class TruncatedClipError(ClipError):
    """The clip is cut off or damaged."""

    code = "truncated-clip"
    remedy = (
        "Upload it again from the original, or set `clip_cut_off` to `keep`: then the frames "
        "before the damage are cut out."
    )


class UnsupportedClipError(ClipError):
    """The service does not read this kind of video."""

    code = "unsupported-clip"
    remedy = "Export it as MP4 with H.264 or HEVC, and send that."


class ClipTooLongError(ClipError):
    """The clip is longer than the limit allows."""

    code = "clip-too-long"
    remedy = (
        "Shorten the clip, or ask the operator to raise MATTING_MAX_CLIP_S or "
        "MATTING_MAX_CLIP_FRAMES."
    )


class ClipTooManyPixelsError(ClipError):
    """A frame of the clip has more pixels than the limit allows."""

    code = "clip-too-many-pixels"
    remedy = "Export the clip smaller, or ask the operator to raise MATTING_MAX_CLIP_PIXELS."


class ClipTooLargeError(ClipError):
    """The file has more bytes than the limit allows."""

    code = "clip-too-large"
    http_status = 413
    remedy = "Compress the clip, or ask the operator to raise MATTING_MAX_CLIP_BYTES."


class ClipNeedsRoomError(ClipError):
    """The clip, its mattes and its results take more room on the worker's disk than the limit."""

    code = "clip-needs-room"
    remedy = (
        "Ask for fewer or smaller outputs (`prores` and `frames` are the largest), cut the clip "
        "into shorter ones, or ask the operator to raise MATTING_CLIP_DISK_BYTES."
    )


class ClipTimeoutError(ClipError):
    """Reading or decoding the clip took longer than the limit allows."""

    code = "clip-timeout"
    remedy = (
        "Export the clip again with another program, or ask the operator to raise "
        "MATTING_IMAGE_TIMEOUT_S."
    )


class PoisonousClipError(ClipError):
    """Reading the clip crashed its process, or took far more memory than it should."""

    code = "poisonous-clip"
    remedy = "Export the clip again with another program, as MP4 with H.264 for example."
