"""Procedural colour scenes of objects with known looks: blood smears, skin, endoscopy, radiographs, plain shapes.

They teach a detector what words of colour, shape, texture, size and place look like. No name of a blood cell occurs.
"""
from __future__ import annotations

import colorsys
from typing import Any

import numpy as np
from scipy import ndimage

from promptzoo.data.synthesis.attribute_words import (
    COLOURS,
    NEAR,
    NOUNS,
    OPEN_SHAPES,
    SHAPES,
    TEXTURES,
    Described,
)
from promptzoo.data.synthesis.fields import FieldBank

DOMAINS = ("smear", "skin", "endoscopy", "radiograph", "plain")
LEAST_VISIBLE = 0.45
"""Objects cut by the border that show less of themselves are not labelled; they are drawn all the same."""

_GREYS = ("black", "white", "grey")
_GROUNDS = {"smear": ("pale", 0.02, 0.25, 0.75, 0.98), "skin": ("skin", 0.2, 0.55, 0.4, 0.95),
            "endoscopy": ("gut", 0.35, 0.75, 0.45, 0.9)}


class AttributeScenes:
    """Random scenes.

    Args:
        size: side of the picture in pixels, at least 64.
        seed: of the banks of textures; what :meth:`sample` draws depends on it and on the generator given there.

    Raises:
        ValueError: for a smaller picture.
    """

    def __init__(self, size: int = 256, seed: int = 0) -> None:
        if size < 64:
            raise ValueError(f"picture size: got {size}; allowed: at least 64 pixels.")
        self.size = size
        self.bank = FieldBank(size, seed, textures=32, smooth=16)

    def sample(self, rng: np.random.Generator, domain: str | None = None) -> tuple[np.ndarray, list[Described]]:
        """One scene.

        Args:
            rng: of all draws.
            domain: one of :data:`DOMAINS`; None draws it.

        Returns:
            Picture ``[H, W, 3]`` float32 in [0, 1] and its objects.
        """
        kind = str(rng.choice(DOMAINS, p=[0.4, 0.12, 0.12, 0.14, 0.22])) if domain is None else domain
        ground = self._ground(rng, kind)
        picture, objects = ground.copy(), []
        taken: list[tuple[float, float, float]] = []
        apart = rng.uniform(0.6, 1.0) if kind == "smear" else 1.05
        for told in self._cast(rng, kind):
            place = self._place(rng, told, taken, apart)
            if place is None:
                continue
            one = self._draw(rng, picture, ground, told, place, kind)
            taken.append((*place, told["radius"]))
            if one is not None:
                objects.append(one)
        return self._photo(rng, picture, kind), objects

    def _ground(self, rng: np.random.Generator, kind: str) -> np.ndarray:
        """Background ``[H, W, 3]``."""
        side = self.size
        if kind == "radiograph":
            rows, columns = np.mgrid[:side, :side] / side
            angle = rng.uniform(0, 2 * np.pi)
            grey = rng.uniform(0.15, 0.6) + rng.uniform(0, 0.25) * (np.cos(angle) * rows + np.sin(angle) * columns)
            grey = grey + rng.uniform(0.02, 0.1) * self.bank.smooth(rng) + rng.uniform(0, 0.05) * self.bank.texture(rng)
            if rng.random() < 0.5:  # ribs
                wave = np.sin(2 * np.pi * (rows * rng.uniform(4, 9) + columns * rng.uniform(-1.5, 1.5)))
                grey = grey + rng.uniform(0.02, 0.1) * wave
            return np.repeat(np.clip(grey, 0, 1)[..., None], 3, 2).astype(np.float32)
        if kind == "plain":
            name = str(rng.choice(list(COLOURS)))
            base, spread = colour_of(rng, name), rng.uniform(0, 0.12)
        else:
            _, s0, s1, v0, v1 = _GROUNDS[kind]
            hue = {"smear": rng.uniform(-0.08, 0.2), "skin": rng.uniform(0.02, 0.1),
                   "endoscopy": rng.uniform(-0.03, 0.06)}[kind]
            base = np.array(colorsys.hsv_to_rgb(hue % 1, rng.uniform(s0, s1), rng.uniform(v0, v1)))
            spread = rng.uniform(0.01, 0.08)
        shade = 1 + spread * self.bank.smooth(rng) + rng.uniform(0, 0.06) * self.bank.texture(rng)
        picture = base[None, None] * shade[..., None]
        if kind == "endoscopy":
            rows, columns = np.mgrid[:side, :side] / side - 0.5
            picture = picture * (1 - rng.uniform(0.2, 1.6) * (rows ** 2 + columns ** 2))[..., None]
            if rng.random() < 0.5:  # folds
                phase = rng.uniform(2, 6) * np.hypot(rows - rng.uniform(-1, 1), columns - rng.uniform(-1, 1))
                picture = picture * (1 + rng.uniform(0, 0.2) * np.sin(2 * np.pi * phase))[..., None]
        if kind == "skin" and rng.random() < 0.5:  # hairs
            self._lines(rng, picture, int(rng.integers(3, 15)))
        return np.clip(picture, 0, 1).astype(np.float32)

    def _lines(self, rng: np.random.Generator, picture: np.ndarray, count: int) -> None:
        lines = np.zeros(picture.shape[:2], np.float32)
        for _ in range(count):
            start, angle = rng.uniform(0, self.size, 2), rng.uniform(0, np.pi)
            steps = np.arange(0, rng.uniform(0.2, 0.9) * self.size, 0.5)[:, None]
            turn = angle + 0.006 * rng.normal() * steps
            at = np.rint(start + steps * np.concatenate([np.sin(turn), np.cos(turn)], 1)).astype(int)
            at = at[((at >= 0) & (at < self.size)).all(1)]
            lines[at[:, 0], at[:, 1]] = 1
        picture *= (1 - rng.uniform(0.3, 0.8) * ndimage.gaussian_filter(lines, 0.6))[..., None]

    def _cast(self, rng: np.random.Generator, kind: str) -> list[dict[str, Any]]:
        """What is to be drawn: groups of like objects."""
        groups, cast = int(rng.integers(1, 5)), []
        if rng.random() < 0.06:
            return []
        for number in range(groups):
            crowd = kind == "smear" and number == 0
            if kind == "radiograph":
                colour = str(rng.choice(_GREYS))
            elif kind == "smear" and rng.random() < 0.5:
                colour = str(rng.choice(("pink", "purple", "red", "purple", "pink", "blue")))
            elif kind == "endoscopy" and rng.random() < 0.5:
                colour = str(rng.choice(("red", "pink", "white", "yellow")))
            elif kind == "skin" and rng.random() < 0.5:
                colour = str(rng.choice(("brown", "black", "red", "pink")))
            else:
                colour = str(rng.choice(list(COLOURS)))
            shape = (str(rng.choice(("round", "round", "oval", "irregular", "ring"))) if kind == "smear"
                     and rng.random() < 0.75 else str(rng.choice(SHAPES)))
            share = float(np.exp(rng.uniform(np.log(0.016), np.log(0.34))))
            if crowd:
                share = float(np.exp(rng.uniform(np.log(0.04), np.log(0.11))))
            few = int(rng.integers(1, 4)) if kind != "smear" else int(rng.integers(1, 3 if share > 0.12 else 6))
            count = int(rng.integers(4, 4 + min(24, int(0.16 / share ** 2)))) if crowd else few
            texture = str(rng.choice(TEXTURES, p=[0.6, 0.2, 0.2]))
            rgb = colour_of(rng, colour)
            core = rng.random() < (0.35 if kind == "smear" and share > 0.05 else 0.05)
            pale = kind == "smear" and not core and rng.random() < 0.5
            for _ in range(count):
                own = shape if rng.random() < 0.85 or not crowd else str(rng.choice(("round", "oval")))
                cast.append({"colour": colour, "shape": own, "texture": texture, "core": core, "pale": pale,
                             "rgb": np.clip(rgb * np.exp(rng.normal(0, 0.04, 3)), 0, 1),
                             "radius": share * self.size * float(np.exp(rng.normal(0, 0.1)))})
        rng.shuffle(cast)  # type: ignore[arg-type]
        return cast

    def _place(self, rng: np.random.Generator, told: dict[str, Any], taken: list[tuple[float, float, float]],
               apart: float) -> tuple[float, float] | None:
        for _ in range(12):
            y, x = rng.uniform(-0.03, 1.03, 2) * self.size
            if all(np.hypot(y - v, x - u) > apart * (told["radius"] + r) for v, u, r in taken):
                return float(y), float(x)
        return None

    def _draw(self, rng: np.random.Generator, picture: np.ndarray, ground: np.ndarray, told: dict[str, Any],
              centre: tuple[float, float], kind: str) -> Described | None:
        """Draw an object; None if too little of it is visible."""
        radius, shape = told["radius"], told["shape"]
        reach = int(np.ceil(radius * 1.75)) + 2
        y, x = int(round(centre[0])), int(round(centre[1]))
        rows, columns = np.mgrid[y - reach:y + reach + 1, x - reach:x + reach + 1].astype(np.float32)
        rho, angle = outline(rng, shape, (rows - centre[0]) / radius, (columns - centre[1]) / radius)
        soft = rng.uniform(0.35, 1.0) / radius * (2.0 if kind in ("radiograph", "endoscopy") else 1.0)
        cover = 1 / (1 + np.exp(np.clip((rho - 1) / soft * 2, -30, 30)))
        inside = (rows >= 0) & (rows < self.size) & (columns >= 0) & (columns < self.size)
        visible = cover * inside
        if visible.sum() < 1:
            return None
        alpha = cover * (rng.uniform(0.75, 1.0) if kind != "radiograph" else rng.uniform(0.6, 1.0))
        paint = np.broadcast_to(told["rgb"], (*cover.shape, 3)).astype(np.float32).copy()
        if told["texture"] == "spotted":
            grain = ndimage.gaussian_filter(rng.standard_normal(cover.shape), max(0.6, 0.1 * radius))
            paint *= (1 + rng.uniform(0.25, 0.5) * np.sign(grain / (grain.std() + 1e-6) - 0.6))[..., None]
        elif told["texture"] == "striped":
            turn = rng.uniform(0, np.pi)
            wave = np.sin((rows * np.sin(turn) + columns * np.cos(turn)) * 2 * np.pi / max(3.0, 0.45 * radius))
            paint *= (1 + rng.uniform(0.25, 0.45) * wave)[..., None]
        if told["pale"] and shape != "ring":
            alpha = alpha * (1 - rng.uniform(0.15, 0.5) * np.exp(-(rho / rng.uniform(0.35, 0.6)) ** 2))
        if told["core"] and shape in ("round", "oval", "irregular"):
            lobes = rho / (rng.uniform(0.6, 0.9) * (1 + rng.uniform(0, 0.2) * np.cos(rng.integers(2, 5) * angle)))
            nucleus = 1 / (1 + np.exp(np.clip((lobes - 1) / soft, -30, 30)))
            body = 0.5 * paint + 0.5 * np.array([0.9, 0.85, 0.92])
            paint = body * (1 - nucleus[..., None]) + paint * nucleus[..., None]
        paint *= (1 + rng.uniform(0, 0.12) * (1 - rho.clip(0, 1)))[..., None]
        r0, c0 = max(0, y - reach), max(0, x - reach)
        r1, c1 = min(self.size, y + reach + 1), min(self.size, x + reach + 1)
        if r0 >= r1 or c0 >= c1:
            return None
        cut = (slice(r0 - y + reach, r1 - y + reach), slice(c0 - x + reach, c1 - x + reach))
        under, mix = picture[r0:r1, c0:c1], alpha[cut][..., None]
        shade = float(told["rgb"].mean() - ground[r0:r1, c0:c1].mean())
        under[:] = under * (1 - mix) + np.clip(paint, 0, 1)[cut] * mix
        if visible.sum() < LEAST_VISIBLE * cover.sum() or (visible > 0.5).sum() < 8:
            return None
        seen = np.argwhere(visible > 0.5) + (y - reach, x - reach)
        (top, left), (bottom, right) = seen.min(0), seen.max(0) + 1
        return self._described((left, top, right, bottom), told, kind, shade)

    def _described(self, box: tuple[int, ...], told: dict[str, Any], kind: str, shade: float) -> Described:
        side, colour, shape = self.size, told["colour"], told["shape"]
        true, open_ = {colour, shape, told["texture"], "object", *NOUNS[kind]}, {*NEAR[colour], *OPEN_SHAPES[shape]}
        extent = max(box[2] - box[0], box[3] - box[1]) / side
        for word, low, high in (("small", 0.0, 0.10), ("medium", 0.13, 0.20), ("large", 0.26, 2.0)):
            if low <= extent <= high:
                true.add(word)
            elif low - 0.05 <= extent <= high + 0.05:
                open_.add(word)
        across, down = (box[0] + box[2]) / 2 / side, (box[1] + box[3]) / 2 / side
        for word, where in (("left", across), ("right", 1 - across), ("upper", down), ("lower", 1 - down)):
            if where < 0.38:
                true.add(word)
            elif where < 0.5:
                open_.add(word)
        off = max(abs(across - 0.5), abs(down - 0.5))
        (true if off < 0.14 else open_ if off < 0.25 else set()).add("central")
        if abs(shade) > 0.18:
            true.add("bright" if shade > 0 else "dark")
        elif abs(shade) > 0.06:
            open_.add("bright" if shade > 0 else "dark")
        if told["radius"] < 6:
            open_ |= {"round", "oval", "irregular"}
        if kind == "smear":
            open_ |= {"lesion", "mass"}
        return Described(tuple(float(v) for v in box), frozenset(true), frozenset(open_ - true))  # type: ignore

    def _photo(self, rng: np.random.Generator, picture: np.ndarray, kind: str) -> np.ndarray:
        """Shine, blur, a cast of light, noise."""
        if kind == "endoscopy" and rng.random() < 0.6:
            shine = np.zeros(picture.shape[:2], np.float32)
            at = rng.integers(0, self.size, (int(rng.integers(1, 12)), 2))
            shine[at[:, 0], at[:, 1]] = 1
            picture = picture + 12 * ndimage.gaussian_filter(shine, rng.uniform(0.8, 2.0))[..., None]
        if rng.random() < 0.5:
            picture = ndimage.gaussian_filter(picture, (s := rng.uniform(0.3, 1.1), s, 0))
        cast = 1.0 if kind == "radiograph" else np.exp(rng.normal(0, 0.04, 3))
        picture = picture * cast * np.exp(rng.normal(0, 0.06))
        level = rng.uniform(0.003, 0.03) if rng.random() < 0.75 else rng.uniform(0.03, 0.1)
        noise = rng.normal(0, level, picture.shape[:2] + ((1,) if kind == "radiograph" else (3,)))
        if rng.random() < 0.3:  # of an enlarged picture
            noise = 1.8 * ndimage.uniform_filter(noise, (2, 2, 0))
        return np.clip(picture + noise, 0, 1).astype(np.float32)


def colour_of(rng: np.random.Generator, name: str) -> np.ndarray:
    """A random ``[3]`` RGB in [0, 1] that a colour word is true of."""
    hue, saturation, value = (rng.uniform(*span) for span in COLOURS[name])
    return np.array(colorsys.hsv_to_rgb(hue % 1, saturation, value))


def outline(rng: np.random.Generator, shape: str, down: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A shape of about unit radius: the level (1 on the outline) and the angle at each offset from its centre."""
    turn = rng.uniform(0, 2 * np.pi)
    u, v = right * np.cos(turn) + down * np.sin(turn), -right * np.sin(turn) + down * np.cos(turn)
    if shape in ("oval", "elongated"):
        stretch = rng.uniform(1.35, 1.75) if shape == "oval" else rng.uniform(2.5, 4.0)
        u, v = u / np.sqrt(stretch), v * np.sqrt(stretch)
    rho, angle = np.hypot(u, v), np.arctan2(v, u)
    if shape == "square":
        rho = np.maximum(np.abs(u), np.abs(v)) / 0.85
    elif shape == "triangular":
        rho = np.max([u * np.cos(a) + v * np.sin(a) for a in (np.pi / 2, np.pi * 7 / 6, np.pi * 11 / 6)], 0) / 0.6
    elif shape == "star":
        rho = rho / (0.8 + 0.4 * np.cos(int(rng.integers(4, 8)) * angle))
    elif shape == "irregular":
        edge = np.ones_like(rho)
        for wave in (2, 3, 4, 5):
            edge = edge + rng.normal(0, 0.13) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
        rho = rho / np.clip(edge, 0.45, 1.6)
    elif shape == "ring":
        half = rng.uniform(0.16, 0.3)
        rho = 1 + (np.abs(rho - (1 - half)) - half) / half * 0.6
    elif shape == "crescent":
        rho = np.maximum(rho, 2 - np.hypot(u - rng.uniform(0.4, 0.7), v) / 0.8)
    elif shape == "round":
        rho = rho / (1 + rng.uniform(0, 0.05) * np.cos(2 * angle))
    return rho, angle
