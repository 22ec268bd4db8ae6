"""Reading one picture or sound file: turned into what models take, or refused in one sentence that names the file."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from semhub_utils.errors import SemhubError
from semhub_utils.inputs import Sound, resample, rgb


def read_image(path: str | Path) -> Image.Image:
    """A picture file in RGB of 8 bits, upright as its EXIF says, on white where it is transparent, the first of several
    frames. Raises SemhubError where the file is missing, no picture, or cut short."""
    try:
        with Image.open(path) as image:
            return rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError as error:
        raise SemhubError(f"There is no picture {path}; the path of a file that exists would do.") from error
    except UnidentifiedImageError as error:
        raise SemhubError(f"{path} is not a picture that can be read; a JPEG or PNG file would do.") from error
    except Image.DecompressionBombError as error:
        raise SemhubError(f"{path} is too large a picture; one of under 100 million pixels would do.") from error
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError) as error:
        raise SemhubError(f"{path} is damaged or cut short; a whole picture file would do.") from error


def read_sound(path: str | Path, rate: int) -> Sound:
    """A sound file as one channel at `rate` samples a second: the mean of its channels, resampled, and made quieter as
    a whole where it goes beyond -1 to 1. Raises SemhubError where the file is missing, no sound, empty, or holds values
    that are no numbers."""
    import soundfile  # read only when a sound is

    try:
        samples, own = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, OSError, ValueError, TypeError) as error:
        if not Path(path).is_file():
            raise SemhubError(f"There is no sound {path}; the path of a file that exists would do.") from error
        raise SemhubError(f"{path} is not a sound that can be read; a WAV, FLAC or OGG file would do.") from error
    if not len(samples):
        raise SemhubError(f"{path} has no samples; a sound of at least one would do.")
    if not np.isfinite(samples).all():
        raise SemhubError(f"{path} holds samples that are no numbers; a sound without them would do.")
    sound = resample(samples.mean(1), own, rate)
    return Sound((sound / max(1.0, float(np.abs(sound).max()))).astype(np.float32), rate)
