"""Sounds of the world: animals, instruments and machines, made of sines, frequency modulation and filtered noise.

Every source is a word of the lexicon. A `Clip` says what was drawn (pitch, length, loudness, noise); `synthesise` turns
it into samples, the same at every call. Held out, and in no sound of the training stream: for every source some
combinations of pitch and length.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from semhub_utils.organism.corpus import Ask, Shares
from semhub_utils.organism.world import all_facts

RATE = 16000  # samples a second
LONGEST = 2.0  # seconds of the longest clip
PITCHES = {"low": (0.76, 0.88), "middle": (0.94, 1.06), "high": (1.13, 1.3)}  # factor on a source's own pitch
LENGTHS = {"short": (0.7, 0.95), "medium": (1.1, 1.4), "long": (1.6, 2.0)}  # seconds
# Root mean square of a clip in decibels relative to full scale, before noise and the limit on peaks; and that of the
# background noise relative to the clip's own.
LOUDNESS, NOISE = (-26.0, -8.0), (-60.0, -30.0)
PEAK = 0.98  # largest sample; louder clips are turned down, never clipped

_VERBS = "bark meow moo neigh grunt bleat roar howl squeak quack sing hiss buzz".split()
ANIMALS: dict[str, str | None] = dict(
    zip("dog cat cow horse pig sheep lion wolf mouse duck rooster snake bee".split(), _VERBS, strict=True)
) | dict.fromkeys(("frog", "crow", "owl"))
"""Animal -> the verb of its sound, None where the world's facts say something else of it ("the frog can jump")."""
INSTRUMENTS = ("piano", "guitar", "violin", "flute", "trumpet", "drum", "bell")
MACHINES = ("train", "car", "phone", "saw", "hammer")
GROUPS = {"animal": tuple(ANIMALS), "instrument": INSTRUMENTS, "machine": MACHINES}
SOURCES = (*ANIMALS, *INSTRUMENTS, *MACHINES)  # everything that sounds, by its English word

# A bell's partials: ratio to the tone, strength, seconds to a third; and a hammer's: hertz, seconds.
_BELL = ((0.5, 0.5, 1.2), (1, 1, 0.9), (1.19, 0.6, 0.7), (1.56, 0.4, 0.5), (2, 0.5, 0.45), (2.66, 0.3, 0.3))
_BELL += ((3.01, 0.25, 0.25),)
_HAMMER = ((1350, 0.05), (2890, 0.035), (4300, 0.02))

Samples = np.ndarray
Number = int | float


@dataclass(frozen=True)
class Clip:
    """One sound: a source, named pitch and length, and the numbers drawn for them. pitch: factor on the source's own;
    seconds; loudness and noise in decibels (see LOUDNESS, NOISE); `grain` seeds all that is random in the sound."""

    source: str
    pitch_name: str
    length_name: str
    pitch: float
    seconds: float
    loudness: float
    noise: float
    grain: int


class _Bench:
    """What sounds are made with: the clock of one clip, its own random numbers, building blocks, and the sources.

    t in seconds, f in hertz (a number or one per sample)."""

    def __init__(self, seconds: Number, pitch: Number, grain: int):
        self.t = np.arange(round(seconds * RATE)) / RATE
        self.n, self.seconds, self.pitch = len(self.t), seconds, pitch
        self.rng = np.random.default_rng(grain)

    def phase(self, f) -> Samples:
        return 2 * np.pi * np.cumsum(np.broadcast_to(np.asarray(f, dtype=float), self.t.shape)) / RATE

    def sine(self, f) -> Samples:
        return np.sin(self.phase(f))

    def tone(self, f, strengths) -> Samples:
        """Harmonics of f with the given strengths; those above 7.5 kHz fall silent."""
        phase, out = self.phase(f), np.zeros(self.n)
        for k, strength in enumerate(strengths, 1):
            if strength and np.max(f) * k < 7500:
                out += strength * np.sin(k * phase + self.rng.uniform(0, 6.28))
        return out

    def buzz(self, f, formants, width: Number = 180.0, falling: Number = 0.7) -> Samples:
        """A throat: harmonics of f, raised near the formants (hertz, a number or one per sample)."""
        f = np.broadcast_to(np.asarray(f, dtype=float), self.t.shape)
        phase, out = self.phase(f), np.zeros(self.n)
        for k in range(1, int(min(40, 6500 / f.mean())) + 1):
            gain = sum(np.exp(-(((k * f - c) / width) ** 2)) for c in formants) + 0.04
            out += gain * k**-falling * np.sin(k * phase)
        return out

    def hiss(self, low: Number, high: Number) -> Samples:
        """Noise between two frequencies (hertz) with soft edges."""
        spectrum = np.fft.rfft(self.rng.standard_normal(self.n))
        f = np.fft.rfftfreq(self.n, 1 / RATE)
        gain = 1 / (1 + (low / np.maximum(f, 1.0)) ** 8) / (1 + (f / high) ** 8)
        noise = np.fft.irfft(spectrum * gain, self.n)
        return noise / (np.abs(noise).max() + 1e-9)

    def swell(self, attack: Number, release: Number) -> Samples:
        """Up in `attack` seconds, down in the last `release`."""
        return np.minimum(1, self.t / attack) * np.minimum(1, (self.seconds - self.t) / release).clip(0)

    def bursts(self, every: Number, of: Number, sharp: Number = 3.0, jitter: Number = 0.1) -> Samples:
        """A train of bumps, `of` seconds long, one `every` so many seconds, starting at once."""
        out, start = np.zeros(self.n), self.rng.uniform(0, 0.05)
        while start + of * 0.6 < self.seconds:
            x = (self.t - start) / of
            out = np.maximum(out, np.where((x > 0) & (x < 1), np.sin(np.pi * x.clip(0, 1)) ** (1 / sharp), 0))
            start += max(every * (1 + jitter * self.rng.uniform(-1, 1)), of * 1.15)
        return out

    def blows(self, last: Number, pause: Callable[[], Number]) -> Iterator[tuple[Samples, Samples]]:
        """Blow after blow, the last so many seconds before the end: the seconds since, and whether it has fallen."""
        start = 0.0
        while start < self.seconds - last:
            yield np.maximum(0, self.t - start), self.t >= start
            start += pause()

    def notes(self, every: Number, f: Number) -> tuple[Samples, Samples]:
        """A tune, one note `every` so many seconds: the frequency and the seconds since the note began."""
        steps = np.array([1, 9 / 8, 5 / 4, 4 / 3, 3 / 2, 5 / 3, 2])
        starts = np.arange(0, self.seconds, every)
        which = np.minimum((self.t / every).astype(int), len(starts) - 1)
        return f * self.pitch * self.rng.choice(steps, len(starts))[which], self.t - starts[which]

    def sweep(self, *points: Number) -> Samples:
        """A smooth curve through points spread evenly over the clip."""
        rough = np.interp(self.t, np.linspace(0, self.seconds, len(points)), points)
        size = max(1, self.n // (2 * len(points)))
        padded = np.concatenate([np.full(size, rough[0]), rough, np.full(size, rough[-1])])
        total = np.cumsum(np.insert(padded, 0, 0.0))
        smooth = (total[size:] - total[:-size]) / size
        return smooth[size // 2 : size // 2 + self.n]

    # ---- the sources, each a method by its word ----

    def dog(self) -> Samples:
        bark = self.bursts(0.42, 0.17)
        throat = self.buzz(self.pitch * (260 + 260 * bark), (650, 1250), 260)
        return bark * (throat + 0.5 * self.hiss(500, 2500))

    def cat(self) -> Samples:
        mouth = self.sweep(900, 1700, 1500, 1000)
        f = self.pitch * self.sweep(520, 780, 760, 560, 430)
        return self.swell(0.12, 0.25) * self.buzz(f, (mouth, 2.2 * mouth), 320)

    def cow(self) -> Samples:
        f = self.pitch * self.sweep(105, 140, 150, 145, 110)
        return self.swell(0.2, 0.3) * self.buzz(f, (self.sweep(280, 520, 560, 430), 900), 170)

    def horse(self) -> Samples:
        shake = 1 + 0.18 * self.sine(self.sweep(11, 9, 6))
        f = self.pitch * self.sweep(1150, 1000, 760, 480) * shake
        throat = self.buzz(f, (1500, 2600), 500) * (0.6 + 0.4 * shake)
        return self.swell(0.06, 0.2) * (throat + 0.15 * self.hiss(1000, 4000))

    def pig(self) -> Samples:
        grunt = self.bursts(0.3, 0.2, 2.0) * (0.55 + 0.45 * np.sign(self.sine(38 * self.pitch)))
        return grunt * (self.buzz(95 * self.pitch, (420, 1050), 200) + 0.9 * self.hiss(250, 1300))

    def sheep(self) -> Samples:
        shake = self.sine(7.5)
        f = self.pitch * (330 + 22 * shake) * self.sweep(1.0, 1.06, 0.94)
        return self.swell(0.05, 0.15) * (0.65 + 0.35 * shake) * self.buzz(f, (700, 1150, 2500), 200)

    def lion(self) -> Samples:
        throat = self.buzz(75 * self.pitch * self.sweep(0.9, 1.15, 0.8), (260, 480), 150)
        return self.swell(0.25, 0.5) * (0.6 + 0.4 * self.sine(27 * self.pitch)) * (throat + self.hiss(80, 700))

    def wolf(self) -> Samples:
        f = self.pitch * self.sweep(300, 470, 520, 520, 500, 410) * (1 + 0.008 * self.sine(5))
        return self.swell(0.25, 0.4) * self.tone(f, (1, 0.35, 0.12, 0.04))

    def mouse(self) -> Samples:
        squeak = self.bursts(0.16, 0.07, 2.0, 0.3)
        return squeak * self.tone(self.pitch * (3300 + 900 * squeak), (1, 0.2))

    def duck(self) -> Samples:
        quack = self.bursts(0.3, 0.16, 3.0)
        return quack * self.buzz(self.pitch * (215 - 35 * (1 - quack)), (1150, 1900, 2900), 260, 0.35)

    def rooster(self) -> Samples:
        at = self.t / self.seconds
        f = self.pitch * np.interp(at, (0, 0.12, 0.16, 0.28, 0.32, 0.6, 1), (560, 640, 720, 780, 950, 1050, 640))
        first, second = (0.9 * np.exp(-(((at - gap) / 0.02) ** 2)) for gap in (0.14, 0.3))
        return self.swell(0.03, 0.15) * (1 - first - second) * self.buzz(f, (1100, 2200, 3400), 420, 0.4)

    def snake(self) -> Samples:
        return self.swell(0.12, 0.3) * self.hiss(3600 * self.pitch, 7200) * self.sweep(0.7, 1.0, 0.8, 1.0, 0.6)

    def bee(self) -> Samples:
        wander = self.sweep(*self.rng.uniform(0.92, 1.08, 6))
        wings = self.tone(215 * self.pitch * wander, [k**-0.8 for k in range(1, 16)])
        return self.swell(0.1, 0.1) * wings * (0.75 + 0.25 * self.sine(19 * wander))

    def frog(self) -> Samples:
        croak = self.bursts(0.45, 0.3, 2.0) * np.maximum(0, self.sine(34 * self.pitch)) ** 4
        return croak * self.tone(self.pitch * self.sweep(620, 680), (1, 0.5, 0.25))

    def crow(self) -> Samples:
        caw = self.bursts(0.6, 0.34, 3.0) * (0.55 + 0.45 * self.sine(85 * self.pitch))
        throat = self.buzz(self.pitch * 560 * self.sweep(1.05, 0.95), (1500, 2400), 600, 0.2)
        return caw * (throat + 0.5 * self.hiss(1000, 3500))

    def owl(self) -> Samples:
        hoot = self.bursts(0.5, 0.36, 1.6)
        return hoot * self.tone(self.pitch * 370 * (1 - 0.04 * (1 - hoot)), (1, 0.06, 0.02))

    def piano(self) -> Samples:
        f, since = self.notes(0.36, 262)
        strings = np.exp(-since / 0.28) * np.minimum(1, since / 0.004) * self.tone(f, (1, 0.5, 0.28, 0.16, 0.08, 0.05))
        return strings + 0.06 * np.exp(-since / 0.01) * self.hiss(300, 3000)

    def guitar(self) -> Samples:
        f, since = self.notes(0.36, 165)
        phase, out = self.phase(f), np.zeros(self.n)
        for k in range(1, 16):  # a string plucked near its end: high harmonics die first
            out += np.sin(np.pi * k * 0.18) / k**0.7 * np.exp(-since * (2.0 + 1.1 * k)) * np.sin(k * phase)
        return out * np.minimum(1, since / 0.002)

    def violin(self) -> Samples:
        f, since = self.notes(0.6, 440)
        string = self.tone(f * (1 + 0.012 * self.sine(6.0)), [k**-0.9 for k in range(1, 14)])
        return self.swell(0.1, 0.15) * np.minimum(1, since / 0.09) * (string + 0.08 * self.hiss(2000, 6500))

    def flute(self) -> Samples:
        (f, since), wave = self.notes(0.5, 660), self.sine(5)
        pipe = (0.75 + 0.25 * wave) * self.tone(f * (1 + 0.004 * wave), (1, 0.12, 0.05)) + 0.18 * self.hiss(900, 5000)
        return self.swell(0.08, 0.12) * np.minimum(1, since / 0.06) * pipe

    def trumpet(self) -> Samples:
        f, since = self.notes(0.4, 330)
        brass, phase = np.minimum(1, since / 0.05), self.phase(f)
        # frequency modulation whose depth follows the loudness
        return self.swell(0.03, 0.1) * brass * np.sin(phase + 3.2 * brass * np.sin(phase))

    def drum(self) -> Samples:
        out = np.zeros(self.n)
        for since, on in self.blows(0.08, lambda: self.rng.choice((0.2, 0.3, 0.4))):
            turns = 75 * since + 2.2 * (1 - np.exp(-since / 0.03))
            out += on * (np.exp(-since / 0.11) * np.sin(2 * np.pi * self.pitch * turns))
            out += on * 0.35 * np.exp(-since / 0.02) * self.hiss(200, 2500)
        return out

    def bell(self) -> Samples:
        partials = [s * np.exp(-self.t / decay) * self.sine(780 * self.pitch * ratio) for ratio, s, decay in _BELL]
        return sum(partials) * np.minimum(1, self.t / 0.002)

    def train(self) -> Samples:
        chuff = np.exp(-np.mod(self.t, 0.24) / 0.07) * self.hiss(150 * self.pitch, 1800)
        whistle = self.swell(0.1, 0.15) * sum(self.tone(f * self.pitch, (1, 0.3, 0.1)) for f in (311, 370, 466))
        return chuff + 0.22 * whistle

    def car(self) -> Samples:
        speed = self.pitch * self.sweep(38, 52, 70, 60)
        engine = self.tone(speed, [0.4, 1, 0.5, 0.9, 0.3, 0.6, 0.2, 0.3, 0.15, 0.2])
        return self.swell(0.08, 0.1) * (engine + 0.5 * self.hiss(60, 500))

    def phone(self) -> Samples:
        warble = np.where(np.mod(self.t, 0.08) < 0.04, 1.0, 1.25)
        return (np.mod(self.t, 0.5) < 0.32) * self.tone(980 * self.pitch * warble, (1, 0.3, 0.15))

    def saw(self) -> Samples:
        stroke = np.abs(np.sin(np.pi * self.t / 0.34)) ** 0.7
        teeth = 0.5 + 0.5 * np.sign(self.sine(62 * self.pitch * stroke))
        return stroke * teeth * self.hiss(900 * self.pitch, 4200)

    def hammer(self) -> Samples:
        out = np.zeros(self.n)
        for since, on in self.blows(0.06, lambda: 0.36 * (1 + 0.08 * self.rng.uniform(-1, 1))):
            parts = [np.exp(-since / d) * np.sin(2 * np.pi * f * self.pitch * since) for f, d in _HAMMER]
            out += on * (sum(parts) + 0.8 * np.exp(-since / 0.006) * self.hiss(800, 6000))
        return out


# ---- clips ----


@cache
def held_out() -> frozenset[tuple[str, str, str]]:
    """(source, pitch, length) that no training clip has: two of the nine for every source, unlike in both."""
    rng, held = random.Random("sounds 0"), set()
    for source in SOURCES:
        pitches, lengths = rng.sample(list(PITCHES), 2), rng.sample(list(LENGTHS), 2)
        held |= {(source, p, s) for p, s in zip(pitches, lengths, strict=True)}
    return frozenset(held)


def draw(rng: random.Random, source: str, *, held: bool | None = False) -> Clip:
    """A clip of a source. held: False, as in training; True, a held-out combination; None, either."""
    while True:
        pitch, length = rng.choice(list(PITCHES)), rng.choice(list(LENGTHS))
        if held is None or ((source, pitch, length) in held_out()) == held:
            ranges = PITCHES[pitch], LENGTHS[length], LOUDNESS, NOISE
            return Clip(source, pitch, length, *(rng.uniform(*ends) for ends in ranges), rng.getrandbits(32))


def questions(clip: Clip) -> list[Ask]:
    """All that can be asked of a clip: what it is ("name"); of an animal with a sound verb, what it does ("skill"); and
    what the world's facts say it is ("kind"), which is never taught of sounds."""
    said = {"name": clip.source, "skill": ANIMALS.get(clip.source), "kind": kind_of(clip.source)}
    return [Ask(kind, "", (word,)) for kind, word in said.items() if word]


def kind_of(source: str) -> str:
    """What the world's facts say a source is ("mammal"); empty where they do not."""
    return next((fact.object for fact in all_facts() if (fact.subject, fact.relation) == (source, "is_a")), "")


def synthesise(clip: Clip) -> Samples:
    """Samples of a clip, float32 in -PEAK..PEAK, RATE a second, `clip.seconds` long; the same at every call."""
    bench = _Bench(clip.seconds, clip.pitch, clip.grain)
    sound = getattr(bench, clip.source)()
    fade = np.minimum(1, np.minimum(np.arange(bench.n), np.arange(bench.n)[::-1]) / (0.005 * RATE))
    sound = (sound - sound.mean()) * fade
    level = 10 ** (clip.loudness / 20) / (np.sqrt(np.mean(sound**2)) + 1e-9)
    sound = sound * level + 10 ** ((clip.loudness + clip.noise) / 20) * bench.rng.standard_normal(bench.n)
    return (sound * min(1.0, PEAK / np.abs(sound).max())).astype(np.float32)


def stream(rng: random.Random, menu: Shares = ()) -> Iterator[Clip]:
    """The endless stream of training clips, nothing held out among them."""
    while True:
        yield draw(rng, rng.choice(list(SOURCES)))
