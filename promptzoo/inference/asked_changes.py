"""Of a new answer, the changes that the new prompts asked for."""
from __future__ import annotations

import numpy as np
from scipy import ndimage

from promptzoo.inference.looks import Look, keep_promises
from promptzoo.inference.object_prompts import ObjectPrompts


def only_asked(look: Look, prompts: ObjectPrompts) -> Look:
    """Of the changes against the mask the session came with, keep those that a new click or stroke asked for.

    A prompt is new if that mask contradicts it. A gain is asked for if it is connected to a new positive prompt, a
    loss if it is connected to a new negative one. So a correction does not undo what was right elsewhere. Without a
    new prompt the answer stays as it is.
    """
    if prompts.prior is None:
        return look
    before, changed = look.window.sample(prompts.prior), look.probability
    had, has = before >= 0.5, changed >= 0.5
    keep, found = np.zeros(has.shape, bool), False
    for sign, change, points in ((True, has & ~had, (prompts.positive, prompts.scribble_positive)),
                                 (False, had & ~has, (prompts.negative, prompts.scribble_negative))):
        news = [p for group in points for p in group if (_at(prompts.prior, p) >= 0.5) != sign]
        if not news:
            continue
        found = True
        at = np.rint(look.window.to_window(np.asarray(news))).astype(int)
        at = at[((at >= 0) & (at < has.shape)).all(1)]
        parts, _ = ndimage.label(change)
        asked = np.unique(parts[tuple(at.T)])
        keep |= np.isin(parts, asked[asked > 0])
    if not found:
        return look
    mixed = np.where(keep | (had == has), changed, before)
    return Look(look.window, keep_promises(mixed, prompts, look.window), look.quality, look.history)


def _at(array: np.ndarray, point: np.ndarray) -> float:
    index = tuple(np.clip(np.rint(point).astype(int), 0, np.asarray(array.shape) - 1))
    return float(array[index])
