"""Rain removed from videos, frame by frame; needs PyAV, the extra ``video``."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

from autoderain_jax.derainer import Derainer
from autoderain_jax.errors import InputError, in_short
from autoderain_jax.files import partial_file

SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")
FORMATS = "mov,matroska"
"""What is read, by FFmpeg's names, whatever a file's name says: others have it read further files."""
CODECS = {".webm": ("libvpx-vp9", {"crf": "24", "b:v": "0"})}
"""Encoder and its options by suffix; the others are of H.264."""
H264 = ("libx264", {"crf": "16", "bf": "0"})
"""Without frames that depend on later ones: where the last packet is not the last frame shown, MP4 forgets how long
that is."""
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9}
"""From how files tell how colours were made of RGB, to how FFmpeg's scaler calls it; where they do not, both go by the
same default."""
TOLD = ("language", "title")
"""Of a stream of sound, what players let people choose by."""
FRAME_RATE = Fraction(25)
"""Of videos that do not tell."""
MOST_SOUND = 2**26
"""Bytes of sound before the first frame, which are kept until then: more than a minute of any kind."""
PACKET_BYTES = 2**10
"""Of memory that a packet takes besides its content."""


def is_video_name(path: Path) -> bool:
    """Whether a file is named like a video."""
    return path.suffix.lower() in SUFFIXES


def require_av() -> None:
    """Raises ``InputError`` if PyAV is not installed."""
    try:
        import av  # noqa: F401
    except ImportError:
        raise InputError("videos need PyAV: pip install 'autoderain-jax[video]'") from None


def restore(source: Path, target: Path, derainer: Derainer, console: Console) -> None:
    """Restores every frame of a video's first stream of pictures; sound and times are kept as they are.

    A frame that its file asks to be shown turned comes out upright.

    Raises:
      InputError: the file is damaged or holds no video, or cannot be written.
    """
    import av

    # Titles and the like are not needed.
    how = {"options": {"format_whitelist": FORMATS}, "metadata_errors": "replace"}
    try:
        # With a colon in it, a name alone would be taken for an address.
        with (
            partial_file(target) as partial,
            av.open(f"file:{source}", **how) as input_,
            av.open(f"file:{partial}", "w") as output,
        ):
            if not input_.streams.video:
                raise InputError(f"{source} holds no video")
            _restore_into(input_, output, target.suffix.lower(), derainer, console, source.name)
    except (InputError, jax.errors.JaxRuntimeError):
        raise
    except Exception as error:
        # What PyAV raises on a damaged file depends on where the damage is: nearly anything. What JAX raises where the
        # device has no room is told elsewhere.
        if "RESOURCE_EXHAUSTED" in str(error):
            raise
        reason = getattr(error, "strerror", None) or in_short(error)
        raise InputError(f"cannot restore video {source}: {reason}") from None


def _restore_into(input_, output, suffix: str, derainer: Derainer, console: Console, name: str) -> None:
    import av

    pictures = input_.streams.best("video")
    pictures.thread_type = "AUTO"
    sound = {}
    for stream in input_.streams.audio:
        if stream.codec_context is None:
            console.print(f"{name}: left out stream {stream.index}, sound of a kind that FFmpeg does not know")
            continue
        try:
            sound[stream] = output.add_stream_from_template(stream)
        except ValueError as error:
            raise InputError(f"cannot keep the sound of {name} in a {suffix} file: {error}") from None
        sound[stream].disposition = stream.disposition
        sound[stream].metadata.update((key, stream.metadata[key]) for key in TOLD if key in stream.metadata)
    written, early, room = None, [], MOST_SOUND

    def frames():
        nonlocal room
        for packet in input_.demux(pictures, *sound):
            if packet.stream not in sound:
                yield from packet.decode()
            elif packet.dts is not None:
                packet.stream = sound[packet.stream]
                if written is not None:
                    output.mux(packet)
                    continue
                # The file begins with what its streams are.
                early.append(packet)
                room -= packet.size + PACKET_BYTES
                if room < 0:
                    raise InputError(f"{name} has more than {MOST_SOUND:,} bytes of sound before its first frame")

    shown = {"console": console, "disable": not console.is_terminal}
    for frame in track(frames(), name, pictures.frames or None, **shown):
        if max(component.bits for component in frame.format.components) > 8:
            raise InputError(f"{name} has more than 8 bits per channel: convert it")
        image = np.ascontiguousarray(_upright(frame))
        restored = av.VideoFrame.from_ndarray(derainer(image), format="rgb24")
        if written is None:
            if any(component.is_alpha for component in frame.format.components):
                console.print(f"{name}: left out its transparency")
            written = _add_pictures(output, pictures, frame, restored, suffix)
            output.mux(early)
        restored = restored.reformat(
            format=written.pix_fmt,
            dst_colorspace=MATRICES.get(frame.colorspace),
            dst_color_range=written.codec_context.color_range or None,
        )
        restored.pts, restored.time_base, restored.duration = frame.pts, frame.time_base, frame.duration
        output.mux(written.encode(restored))
    if written is None:
        raise InputError(f"{name} holds no frame that can be read")
    output.mux(written.encode())


def _upright(frame) -> np.ndarray:
    """The pixels (h, w, 3) of a frame as it is to be shown: turned by quarters, and mirrored."""
    image = frame.to_ndarray(format="rgb24")
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV does not know all that a frame may bring with it.
        return np.rot90(image, frame.rotation // 90 % 4)
    if matrix is None:
        return image
    # Where a pixel goes: to the right by a for every column and c for every row, and down by b and d.
    a, b, _, c, d = struct.unpack("=5i", bytes(matrix)[:20])
    if abs(b) > abs(a):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def _add_pictures(output, like, source, first, suffix: str):
    """The stream to write: times of the stream ``like``, colours of its frame ``source``, size of ``first``."""
    from av.codec.context import Flags

    codec, options = CODECS.get(suffix, H264)
    stream = output.add_stream(codec, rate=like.average_rate or FRAME_RATE, options=options)
    stream.width, stream.height = first.width, first.height
    # Halved colours need even sides.
    stream.pix_fmt = "yuv444p" if first.width % 2 or first.height % 2 else "yuv420p"
    stream.codec_context.time_base = like.time_base
    # Or nobody would know for how long the last frame is shown.
    stream.codec_context.flags |= Flags.frame_duration
    for name in ("colorspace", "color_range", "color_primaries", "color_trc"):
        value = getattr(source, name, None)
        # Of RGB, and of what the scaler does not know, there is none to keep.
        if value is not None and (name != "colorspace" or value in MATRICES):
            setattr(stream.codec_context, name, value)
    ratio = like.sample_aspect_ratio
    if ratio:
        stream.codec_context.sample_aspect_ratio = 1 / ratio if source.rotation // 90 % 2 else ratio
    return stream
