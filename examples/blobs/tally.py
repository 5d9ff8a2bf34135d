"""How far predictions are from the truth, in pixels: one row an image, so ranks add up exactly."""

import numpy as np

from experiments.runtime.task import Tally


class Offsets(Tally):
    def __init__(self, num_images):
        self.rows = np.zeros(num_images)

    def add(self, index, prediction, item):
        self.rows[index] = np.linalg.norm(prediction - item[1].numpy())

    def state(self):
        return self.rows

    def metrics(self, state):
        return {"offset": float(state.mean()), "hits": float((state < 1).mean())}
