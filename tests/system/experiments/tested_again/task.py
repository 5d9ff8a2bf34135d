"""The mean of five numbers. An item's prediction leans on the others of its chunk."""

import time

import numpy as np
import torch
from torch import nn
from torch.nn.functional import mse_loss

from experiments.runtime.seeds import numpy_generator
from experiments.runtime.task import Selection, Tally, Task, Term


class Numbers:
    def __init__(self, length, *stream):
        self.length, self.stream = length, stream

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        values = numpy_generator(*self.stream, index).uniform(-1, 1, 5).astype("float32")
        return values, values.mean()


class Errors(Tally):
    def __init__(self, length):
        self.rows = np.zeros(length)

    def add(self, index, prediction, item):
        self.rows[index] = abs(prediction - float(item[1]))

    def state(self):
        return self.rows

    def metrics(self, state):
        return {"error": float(state.mean())}


class MeanTask(Task):
    selection = Selection("error", "min")

    def build_model(self, device):
        width = self.options.width
        return nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, 1), nn.Flatten(0))

    def train_data(self, epoch):
        return Numbers(40, self.options.runtime.seed, "train", epoch)

    def forward(self, model, batch):
        return model(batch[0])

    def loss(self, output, batch):
        return [Term(mse_loss(output, batch[1]), "items")]

    def lists(self):
        return tuple(map(str, self.options.test_seeds))

    def eval_data(self, name):
        return Numbers(self.options.num_tests, int(name), "test")

    def tally(self, name):
        return Errors(self.options.num_tests)

    def predict(self, model, item, device):
        return self.predict_chunk(model, [item], device)[0]

    def predict_chunk(self, model, items, device):
        time.sleep(self.options.pause_s * len(items))
        output = model(torch.stack([torch.as_tensor(item[0]) for item in items]).to(device))
        return (output + 0.01 * output.mean()).tolist()

    def identity(self, model):
        return {"weights": "none", "data": "numbers"}

    def describe(self, evaluation):
        rows = np.concatenate(list(evaluation.states.values()))
        error = float(rows.std(ddof=1) / len(rows) ** 0.5)
        return {**evaluation.summary(), "bootstrap": {"standard_error": {"error": error}}}

    def details(self, model):
        return {"num_tests": self.options.num_tests, "test_seeds": list(self.options.test_seeds)}


open_task = MeanTask
