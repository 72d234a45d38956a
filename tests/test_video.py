"""``experiments.derain``: what becomes of videos."""

import struct
import sys
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image

from experiments import command as command_module
from experiments import video


@pytest.mark.parametrize("suffix", ["mp4", "webm", "mkv"])
def test_a_video_keeps_its_sound_and_its_times(command, tmp_path, rainy, restored, suffix):
    av = pytest.importorskip("av")
    write_video(av, tmp_path / f"rain.{suffix}", rainy, frames=3)
    assert command(f"rain.{suffix}")[0] == 0
    assert [file.name for file in (tmp_path / "out").iterdir()] == [f"rain.{suffix}"]
    before, after = (read_video(av, folder / f"rain.{suffix}") for folder in (tmp_path, tmp_path / "out"))
    assert len(after["frames"]) == 3
    np.testing.assert_allclose(after["times"], before["times"], atol=1e-3)
    assert after["sound"] == before["sound"]
    for frame in after["frames"]:
        assert np.abs(frame.astype(int) - restored).mean() < 4


QUARTERS = {"0": (1, 0, 0, 1), "90": (0, 1, -1, 0), "180": (-1, 0, 0, -1), "270": (0, -1, 1, 0)}
MIRRORED = {"left-right": (-1, 0, 0, 1), "up-down": (1, 0, 0, -1), "axes": (0, 1, 1, 0), "back": (0, -1, -1, 0)}


@pytest.mark.parametrize(("a", "b", "c", "d"), [*QUARTERS.values(), *MIRRORED.values()], ids=[*QUARTERS, *MIRRORED])
def test_a_video_comes_out_as_it_is_to_be_shown(tmp_path, a, b, c, d):
    """A pixel (x, y) goes to (ax + cy, bx + dy), by the file's matrix, of which the corner of one colour tells."""
    av = pytest.importorskip("av")
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32], image[:24, 32:] = (200, 0, 0), (0, 0, 200)
    write_video(av, tmp_path / "in.mp4", image, frames=1)
    content = (tmp_path / "in.mp4").read_bytes()
    lying, turned = (
        struct.pack(">9i", *(2**16 * n for n in (a, b, 0, c, d, 0, 0, 0)), 2**30)
        for a, b, c, d in (QUARTERS["0"], (a, b, c, d))
    )
    header = content.index(b"tkhd")
    assert lying in content[header : header + 100]
    (tmp_path / "in.mp4").write_bytes(content[:header] + content[header:].replace(lying, turned, 1))
    video.restore(tmp_path / "in.mp4", tmp_path / "out.mp4", lambda image: image, command_module.console())
    (shown,) = read_video(av, tmp_path / "out.mp4")["frames"]
    assert shown.shape[:2] == ((64, 48) if b else (48, 64))
    height, width = shown.shape[:2]
    for x, y, channel in ((-1, -1, 0), (1, -1, 2)):
        to_x, to_y = a * x + c * y, b * x + d * y
        pixel = shown[(2 + to_y) * height // 4, (2 + to_x) * width // 4]
        assert pixel.argmax() == channel
        assert pixel.max() > 150


def test_a_video_keeps_how_long_its_last_frame_is_shown_and_what_its_sound_is(command, tmp_path, rainy):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "12-30.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=10)
        stream.height, stream.width = rainy.shape[:2]
        stream.codec_context.flags |= av.codec.context.Flags.frame_duration
        stream.options = {"bf": "0"}
        stream.codec_context.time_base = Fraction(1, 10)
        tones = [file.add_stream("aac", rate=48000) for _ in range(2)]
        tones[0].metadata["language"], tones[1].metadata["language"] = "deu", "fra"
        tones[0].disposition = av.stream.Disposition.comment
        for i in range(6):
            frame = av.VideoFrame.from_ndarray(np.roll(rainy, 9 * i, axis=1), format="rgb24")
            frame.pts, frame.duration = i, 20 if i == 5 else 1
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
        for tone in tones:
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 48000, 0
            file.mux(tone.encode(sound))
            file.mux(tone.encode())
    content = (tmp_path / "12-30.mp4").read_bytes()
    # The second becomes a kind of sound that nobody knows.
    for told in (b"mp4a", b"esds"):
        assert content.count(told) == 2
        content = b"zzzz".join(content.rsplit(told, 1))
    (tmp_path / "12:30.mp4").write_bytes(content)
    code, out, err = command("12:30.mp4")
    assert (code, err) == (0, "")
    assert "left out stream 2, sound of a kind that FFmpeg does not know" in out
    with av.open(f"file:{tmp_path / 'out/12:30.mp4'}") as file:
        assert [stream.metadata["language"] for stream in file.streams.audio] == ["deu"]
        assert file.streams.audio[0].disposition & av.stream.Disposition.comment
        last = max((packet for packet in file.demux(video=0) if packet.size), key=lambda packet: packet.pts)
        assert (last.pts * last.time_base, last.duration * last.time_base) == (0.5, 2)


def test_a_damaged_video_is_reported(command, tmp_path):
    pytest.importorskip("av")
    (tmp_path / "rain.mp4").write_bytes(b"no video")
    code, _, err = command("rain.mp4")
    assert (code, "cannot restore video" in err) == (1, True)
    assert not list((tmp_path / "out").iterdir())


def write_video(av, path, image, frames):
    """A still picture at uneven times, with a tone."""
    webm = path.suffix == ".webm"
    with av.open(str(path), "w") as file:
        pictures = file.add_stream("libvpx-vp9" if webm else "libx264", rate=10, options={"crf": "10", "b:v": "0"})
        pictures.height, pictures.width = image.shape[:2]
        pictures.pix_fmt = "yuv420p"
        tone = file.add_stream("libopus" if webm else "aac", rate=48000)
        for i in range(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = i * i
            file.mux(pictures.encode(frame))
        file.mux(pictures.encode())
        wave = np.sin(np.arange(960) / 10).astype(np.float32)[None]
        for i in range(20):
            sound = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 48000, 960 * i
            file.mux(tone.encode(sound))
        file.mux(tone.encode())


def read_video(av, path):
    with av.open(str(path)) as file:
        found = {"frames": [], "times": [], "sound": []}
        for packet in file.demux():
            if packet.stream.type == "audio":
                found["sound"] += [bytes(packet)] if packet.size else []
                continue
            for frame in packet.decode():
                found["frames"].append(frame.to_ndarray(format="rgb24"))
                found["times"].append(float(frame.pts * frame.time_base))
        return found


def test_a_video_of_rgb_becomes_one_that_says_no_more_that_it_is(tmp_path):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "in.mp4"), "w") as file:
        stream = file.add_stream("libx264rgb", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "rgb24"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), (200, 90, 30), np.uint8))))
        file.mux(stream.encode())
    video.restore(tmp_path / "in.mp4", tmp_path / "out.mp4", lambda image: image, command_module.console())
    with av.open(str(tmp_path / "in.mp4")) as before, av.open(str(tmp_path / "out.mp4")) as after:
        frames = [next(file.decode(video=0)) for file in (before, after)]
    assert [frame.colorspace == 0 for frame in frames] == [True, False]
    images = [frame.to_ndarray(format="rgb24").astype(int) for frame in frames]
    assert np.abs(images[0] - images[1]).max() <= 6


def test_photographs_are_restored_where_videos_cannot_be(command, tmp_path, rainy, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    Image.fromarray(rainy).save(tmp_path / "photo.png")
    for name in ("clip.MOV", "clip.mp4"):
        (tmp_path / name).touch()
    code, _, err = command("photo.png", "clip.MOV", "clip.mp4")
    assert code == 1
    assert "error: clip.mp4: videos need PyAV" in err
    assert "2 of 3 inputs failed" in err
    assert (tmp_path / "out/photo.png").exists()
    code, _, err = command("clip.MOV")
    assert (code, "videos need PyAV" in err) == (2, True)


def test_transparency_of_a_video_is_left_out_with_a_word(tmp_path, capfd):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "in.mov"), "w") as file:
        stream = file.add_stream("qtrle", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "argb"
        for i in range(2):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 4), 90, np.uint8), format="argb")
            frame.pts = i
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    video.restore(tmp_path / "in.mov", tmp_path / "out.mov", lambda image: image, command_module.console())
    assert capfd.readouterr().out.count("in.mov: left out its transparency") == 1
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["in.mov", "out.mov"]


@pytest.mark.parametrize(("matrix", "span"), [(1, 1), (6, 1), (1, 2), (2, 0)])
def test_a_video_keeps_its_colours_however_they_were_made(tmp_path, matrix, span):
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "in.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=10, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = matrix, span
        frame = av.VideoFrame(64, 48, "yuv420p")
        for plane, value in zip(frame.planes, (120, 80, 200), strict=True):
            plane.update(bytes([value]) * plane.buffer_size)
        frame.pts = 0
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    video.restore(tmp_path / "in.mp4", tmp_path / "out.mp4", lambda image: image, command_module.console())
    with av.open(str(tmp_path / "out.mp4")) as file:
        frame = next(file.decode(video=0))
        assert (frame.colorspace, frame.color_range) == (matrix, span)
        for plane, value in zip(frame.planes, (120, 80, 200), strict=True):
            assert abs(int(bytes(plane)[0]) - value) <= 1
