"""The sound of a clip, copied beside new pictures. Runs in the child process only."""

import shutil
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from itertools import takewhile
from pathlib import Path
from typing import Any

import av
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Stream

from worker.video.container import opened
from worker.video.facts import ClipFacts
from worker.video.remuxing import add_copy

COPIED = {
    "webm": frozenset({"opus", "vorbis"}),
    "mp4": frozenset({"aac", "mp3", "ac3", "eac3", "opus", "alac"}),
    "mov": frozenset({"aac", "mp3", "alac", "pcm_s16le", "pcm_s24le", "pcm_s16be", "ac3"}),
}
"""The codecs that each container takes as they are, and that its players play."""

CODED = {
    "webm": ("libopus", 48_000, 96_000),
    "mp4": ("aac", None, 128_000),
    "mov": ("aac", None, 192_000),
}
"""Other sound is coded anew: encoder, sample rate (None: that of the clip), bits a second."""

RATES = (48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000)
"""Sample rates that AAC takes [Hz]."""

TICK = Fraction(1, 1_000_000)


def add_sound(
    source: Path, pictures: Path, target: Path, facts: ClipFacts, until_s: float | None = None
) -> str:
    """Write `target`: the video of `pictures` with the sound of `source`. Both begin with the
    first frame; `until_s`: the sound ends then. Returns `copied`, `coded` or `none`.

    Raises the errors of `container.opened`, av.error.FFmpegError.
    """
    kind = target.suffix[1:]
    with opened(source) as clip:
        sounds = [one for one in clip.container.streams.audio if one.codec_context is not None]
        if not sounds:
            shutil.copyfile(pictures, target)
            return "none"
        copies = sounds[0].codec_context.name in COPIED[kind]
        start = Fraction(*facts.time_base) * facts.times[0]
        with (
            av.open(str(pictures)) as video,
            av.open(str(target), "w", options=muxing(kind)) as out,
        ):
            shown = video.streams.video[0]
            of_pictures = add_copy(out, shown)
            if copies:
                of_sound = out.add_stream_from_template(sounds[0], opaque=False)
                packets = _copied(clip.container, sounds[0], of_sound, start)
            else:
                packets = _coded(clip.container, sounds[0], out, kind, start)
            if until_s is not None:
                packets = takewhile(partial(_begins_before, until_s), packets)
            _interleave(out, _pictures(video, of_pictures), packets)
    return "copied" if copies else "coded"


def muxing(kind: str) -> dict[str, str]:
    """Options of the muxer: a player can begin before it has the whole file."""
    return {} if kind == "webm" else {"movflags": "+faststart"}


def _interleave(
    out: OutputContainer, pictures: Iterator["Packet[Stream]"], sound: Iterator["Packet[Stream]"]
) -> None:
    """Write the packets of both in the order of their times, so that neither waits in memory."""
    waiting = next(sound, None)
    for picture in pictures:
        while waiting is not None and _time(waiting) <= _time(picture):
            out.mux(waiting)
            waiting = next(sound, None)
        out.mux(picture)
    while waiting is not None:
        out.mux(waiting)
        waiting = next(sound, None)


def _begins_before(seconds: float, packet: "Packet[Stream]") -> bool:
    return _time(packet) < seconds


def _time(packet: "Packet[Stream]") -> Fraction:
    tick = packet.dts if packet.dts is not None else packet.pts
    return (tick or 0) * packet.time_base


def _pictures(video: av.container.InputContainer, stream: Stream) -> Iterator["Packet[Stream]"]:
    for packet in video.demux(video.streams.video[0]):
        if packet.size:
            yield _moved(packet, stream)


def _moved(packet: Any, stream: Stream) -> "Packet[Stream]":
    """The packet, now of another stream."""
    packet.stream = stream
    moved: Packet[Stream] = packet
    return moved


def _copied(
    container: av.container.InputContainer, sound: AudioStream, stream: Stream, start: Fraction
) -> Iterator["Packet[Stream]"]:
    base = sound.time_base or TICK
    shift = round(start / base)
    for packet in container.demux(sound):
        if not packet.size or packet.pts is None or packet.pts < shift:
            continue  # before the first frame
        packet.pts -= shift
        packet.dts = packet.pts
        yield _moved(packet, stream)


def _coded(
    container: av.container.InputContainer,
    sound: AudioStream,
    out: OutputContainer,
    kind: str,
    start: Fraction,
) -> Iterator["Packet[Stream]"]:
    codec, rate, bits = CODED[kind]
    own = sound.codec_context.sample_rate
    rate = rate or (own if own in RATES else RATES[0])
    layout = "mono" if sound.codec_context.channels == 1 else "stereo"
    stream = out.add_stream(codec, rate=rate)
    assert isinstance(stream, AudioStream)
    stream.codec_context.layout = layout
    stream.codec_context.bit_rate = bits
    return _encoded(container, sound, stream, rate, layout, start)


def _encoded(
    container: av.container.InputContainer,
    sound: AudioStream,
    stream: AudioStream,
    rate: int,
    layout: str,
    start: Fraction,
) -> Iterator["Packet[Stream]"]:
    form = stream.codec_context.format.name
    resampler = AudioResampler(
        format=form, layout=layout, rate=rate, frame_size=stream.codec_context.frame_size or None
    )
    base = Fraction(1, rate)
    for packet in container.demux(sound):
        try:
            decoded = packet.decode()
        except av.error.FFmpegError:
            continue  # a damaged piece of sound; the next ones keep their times
        for frame in decoded:
            if frame.pts is None or frame.time_base is None:
                continue
            if frame.pts * frame.time_base < start:
                continue
            frame.pts = round((frame.pts * frame.time_base - start) / base)
            frame.time_base = base
            for piece in resampler.resample(frame):
                yield from stream.encode(piece)
    for piece in resampler.resample(None):
        yield from stream.encode(piece)
    yield from stream.encode(None)
