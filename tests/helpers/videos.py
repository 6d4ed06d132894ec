"""Small videos that tests make themselves, and what is in a file."""

import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np

PROGRAM = imageio_ffmpeg.get_ffmpeg_exe()


def ffmpeg(*words) -> None:
    """Run it; the last word is the file that it writes."""
    subprocess.run([PROGRAM, "-nostdin", "-y", *map(str, words)], check=True, capture_output=True)


def make(path: Path, frames: np.ndarray, rate="24", sound: float = 0, *options: str) -> Path:
    """A video of frames, uint8 (n, h, w, 3), all colours kept; sound: seconds of a tone beside it, in AAC."""
    height, width = frames.shape[1:3]
    raw = path.with_name(f"{path.name}.raw")
    raw.write_bytes(frames.tobytes())
    tone = ["-f", "lavfi", "-i", f"sine=440:duration={sound}"] if sound else []
    source = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", rate, "-i", raw, *tone]
    colours = ["-vf", "scale=out_color_matrix=smpte170m:flags=accurate_rnd+full_chroma_int", "-pix_fmt", "yuv444p"]
    ffmpeg(*source, *colours, "-c:v", "libx264", "-crf", "1", "-c:a", "aac", *options, path)
    raw.unlink()
    return path


def sound(path: Path) -> str:
    """A checksum of the sound as it is stored."""
    command = [PROGRAM, "-v", "error", "-i", str(path), "-map", "0:a", "-c", "copy", "-f", "md5", "-"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def raw(path: Path, pixels: str) -> bytes:
    """Every frame of a video or an animation, in that pixel format of ffmpeg."""
    command = [
        PROGRAM,
        "-v",
        "error",
        "-i",
        str(path),
        "-fps_mode",
        "passthrough",
        "-f",
        "rawvideo",
        "-pix_fmt",
        pixels,
    ]
    return subprocess.run([*command, "-"], check=True, capture_output=True).stdout
