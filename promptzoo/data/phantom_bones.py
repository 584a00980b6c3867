"""Skeleton and back muscles of the torso phantom."""
from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from promptzoo.data.phantom_shapes import capsule, ellipsoid, smooth_max, smooth_min, tube

if TYPE_CHECKING:
    from promptzoo.data.phantom_torso import Torso

VERTEBRA_PITCH_MM = 33.0
DISC_MM = 8.5
RIB_PITCH_MM = 25.0
_INF = float("inf")


def paint_bones(torso: "Torso") -> None:
    """Paint muscles of the back, spine, ribs, sternum and iliac crests onto ``torso.canvas``."""
    _back_muscles(torso)
    _spine(torso)
    _ribs(torso)
    _pelvis(torso)


def _back_muscles(torso: "Torso") -> None:
    canvas, fine = torso.canvas, torso.fine
    for sign in (-1, 1):
        bounds = ((sign * 45 - 60, -130, -1e4), (sign * 45 + 60, 10, 1e4))
        region = canvas.region(*bounds)
        z = torso.z[region]
        free = torso.pleura[region]
        streaks = 62 - 70 * (fine[region] > 1.25)
        erector = canvas.distance(ellipsoid((sign * 30, -78, 0), (25, 17, _INF)), region)
        canvas.fill(np.maximum(erector + torso.organic[region], 3 - free), streaks, None, region)
        psoas = np.hypot((torso.x[region] - sign * (26 + 0.13 * np.clip(-z, 0, 150))) / 0.92,
                         (torso.y[region] + 44) * 0.95) - np.clip((30 - z) * 0.15, -3, 20)
        canvas.fill(np.maximum(psoas, 3 - free), 61 + 4 * fine[region], 0, region)
        quadratus = canvas.distance(ellipsoid((sign * 66, -66, -80), (17, 8, 70)), region)
        canvas.fill(np.maximum(quadratus, 4 - free), 60 + 4 * fine[region], 0, region)


def _spine(torso: "Torso") -> None:
    canvas = torso.canvas
    region = canvas.region((-60, -120, -1e4), (60, -10, 1e4))
    x, y, z = torso.x[region], torso.y[region], torso.z[region]
    phase = np.mod(z + 9, VERTEBRA_PITCH_MM) - VERTEBRA_PITCH_MM / 2
    half = (VERTEBRA_PITCH_MM - DISC_MM) / 2
    grow = 1.0 + np.clip(-z, -120, 120) * 0.0009
    waist = 1.0 - 0.07 * np.clip(1 - (phase / half) ** 2, 0, 1)
    lordosis = -48.0 + 5 * np.cos((z + 70) / 95)
    outline = (np.hypot(x / (23 * grow * waist), (y - lordosis) / (17 * grow * waist)) - 1) * 18
    outline = smooth_max(outline, 3.0 + lordosis - 16 - y - 8, 5.0)
    body = smooth_max(outline, np.abs(phase) - half, 2.5)
    canvas.fill(outline + 0.5, 88.0, None, region)
    arch_y = lordosis - 26
    canal = np.hypot(x / 10.5, (y - arch_y) / 8.5)
    arch = np.maximum((np.hypot(x / 15.5, (y - arch_y) / 13) - 1) * 13, np.abs(phase) - 12.5)
    back = arch_y - y  # mm behind the middle of the canal
    spinous = smooth_max(np.hypot(x / (3.6 - 0.03 * back), (phase + 3 + 0.25 * (back - 12)) / 8.5) * 3.2 - 3.2,
                         np.abs(back - 18) - 12, 3.0)
    aside = np.abs(x)
    wings = smooth_max(np.hypot((back + 1 - 0.16 * (aside - 14)) / 4.2, (phase - 3) / (6.2 - 0.06 * aside)) * 4 - 4,
                       np.abs(aside - 23) - 14, 3.0)
    rear = smooth_min(smooth_min(arch, spinous, 4.0), wings, 4.0)
    bone = smooth_min(body, rear, 3.0)
    canvas.fill(bone, 430.0, 13, region)
    trabecular = 190 + 34 * torso.fine[region]
    canvas.fill(body + 2.6, trabecular, None, region, soft_mm=3.5)
    canvas.fill(rear + 2.6, 230.0, None, region, soft_mm=3.0)
    canvas.fill((canal - 1) * 9, -5.0, 0, region)
    canvas.fill((np.hypot(x / 6.5, (y - arch_y) / 5.5) - 1) * 6, 42.0, None, region)


def _ribs(torso: "Torso") -> None:
    """All ribs at once: tubes in the chest wall, periodic in height, falling from the spine towards the front."""
    canvas = torso.canvas
    low = torso.z > -75
    x, y, z = torso.x, torso.y, torso.z
    angle = np.arctan2(np.abs(x) / 150, -(y + 10) / 100)  # 0 at the spine, pi at the breastbone
    drop = 62 * np.clip(angle - 0.35, 0, 2.0) ** 1.15 - 18 * np.clip(angle - 2.05, 0, 1.2)
    height = z + drop
    phase = np.mod(height + 6, RIB_PITCH_MM) - RIB_PITCH_MM / 2
    number = np.floor((height + 6) / RIB_PITCH_MM)
    middle = torso.wall + 8.0 + 2.5 * np.clip(angle - 0.3, 0, 1)
    reach = np.clip((number + 3.0) * 0.62, 0.0, 2.75)  # lower ribs end earlier
    rib = (np.hypot(middle / 3.7, phase / 6.6) - 1) * 4.0
    rib = smooth_max(rib, (angle - reach) * 90, 3.0)
    rib = smooth_max(rib, (0.18 - angle) * 90, 3.0)
    rib = np.where(low & (height > -85), rib, 50.0).astype(np.float32)
    gristle = np.clip((angle - 2.05) * 6, 0, 1)
    canvas.fill(rib, 470 - 350 * gristle, 14)
    canvas.fill(rib + 2.2, 170 - 60 * gristle)
    canvas.paint(ellipsoid((0, 87, 150), (19, 6.5, 72)), 300.0, None, ((-40, 70, 60), (40, 120, 200)))
    canvas.paint(ellipsoid((0, 87, 150), (16, 4.2, 69)), 130.0, None, ((-40, 70, 60), (40, 120, 200)))


def _pelvis(torso: "Torso") -> None:
    canvas, fine = torso.canvas, torso.fine
    for sign in (-1, 1):
        crest = [(sign * 62, -78, -150), (sign * 92, -62, -124), (sign * 118, -24, -116), (sign * 126, 18, -132)]
        bounds = ((sign * 95 - 60, -120, -1e4), (sign * 95 + 60, 60, -95))
        region = canvas.region(*bounds)
        if any(s.stop <= s.start for s in region):
            continue
        x, z = torso.x[region], torso.z[region]
        rim = canvas.distance(tube(crest, (9, 7.5, 7, 7.5)), region)
        plate = canvas.distance(capsule((sign * 70, -74, -190), (sign * 120, 10, -190), 6.5), region)
        blade = np.where(z < -124, np.abs(plate) * 0 + canvas.distance(
            tube([(p[0] - sign * 4, p[1], -260) for p in crest], (6, 6, 6, 6)), region), 60.0)
        wing = smooth_min(rim, np.minimum(blade, 60.0).astype(np.float32), 4.0)
        canvas.fill(wing, 420.0, None, region)
        canvas.fill(wing + 2.6, 190 + 25 * fine[region] + 0 * x, None, region)
