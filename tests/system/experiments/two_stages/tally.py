"""The squared error of each image."""

import numpy as np

from experiments.runtime.task import Tally


class Errors(Tally):
    def __init__(self, num_images):
        self.rows = np.zeros(num_images)

    def add(self, index, prediction, item):
        self.rows[index] = float((prediction - item[1]) ** 2)

    def state(self):
        return self.rows

    def metrics(self, state):
        return {"error": float(state.mean())}
