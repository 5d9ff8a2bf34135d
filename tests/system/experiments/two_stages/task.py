"""The brightness of noise, in two stages; each rank writes down what every step sees.

`KILL_AT=HOOK EPOCH CALL` kills rank 0, which writes the checkpoints, in that call of a hook.
"""

import hashlib
import json
import os
import signal
from collections import Counter

import numpy as np
import torch
from torch.nn.functional import mse_loss

from experiments.runtime.options import OptimiserOptions
from experiments.runtime.seeds import numpy_generator
from experiments.runtime.stages import Stage
from experiments.runtime.task import Selection, Task, Term

from .model import Model
from .tally import Errors


class Noise:
    def __init__(self, num_images, size, *stream):
        self.num_images, self.size, self.stream = num_images, size, stream

    def __len__(self):
        return self.num_images

    def __getitem__(self, index):
        rng = numpy_generator(*self.stream, index)
        brightness = rng.uniform(-1, 1)
        image = brightness + 0.1 * rng.standard_normal((1, self.size, self.size))
        return image.astype("float32"), np.float32(brightness)


def digest(named):
    found = hashlib.sha256()
    for _, tensor in named:
        found.update(tensor.detach().numpy().tobytes())
    return found.hexdigest()[:16]


class TwoStageTask(Task):
    selection = Selection("error", "min")

    def __init__(self, options, context):
        super().__init__(options, context)
        self.epoch, self.calls = -1, Counter()

    def build_model(self, device):
        return Model()

    def stages(self):
        options, decoder_epochs = self.options, self.options.decoder_epochs
        rest = options.runtime.epochs - decoder_epochs
        first = OptimiserOptions(optimizer="adamw", lr=0.01)
        return [
            Stage(
                name="decoder",
                epochs=decoder_epochs,
                trains=("decoder",),
                optimiser=first,
                image_size=8,
            ),
            Stage(name="all", epochs=rest, optimiser=options.optimiser, image_size=12),
        ]

    def image_size(self, epoch):
        return self.stage.image_size + 2 * (epoch >= self.options.resize_epoch)

    def train_data(self, epoch):
        self.epoch = epoch
        self.passes("train_data")
        # LATE makes the mistake that the runtime must find: the size of the epoch before.
        size = self.image_size(epoch - ("LATE" in os.environ))
        return Noise(40, size, self.options.runtime.seed, "train", epoch)

    def forward(self, model, batch):
        self.passes("forward")
        self.write(model, batch)
        return model(batch[0])

    def loss(self, output, batch):
        return [Term(mse_loss(output, batch[1]), "items")]

    def eval_data(self, name):
        return Noise(5, self.stage.image_size, 0, name)

    def tally(self, name):
        return Errors(5)

    def predict(self, model, item, device):
        return model(torch.as_tensor(item[0])[None])[0]

    def metrics(self, states):
        self.passes("metrics")
        return super().metrics(states)

    def passes(self, hook):
        place = (hook, self.epoch)
        self.calls[place] += 1
        words = f"{hook} {self.epoch} {self.calls[place]}"
        if os.environ.get("KILL_AT") == words and os.environ["RANK"] == "0":
            os.kill(os.getpid(), signal.SIGKILL)

    def write(self, model, batch):
        inner = getattr(model, "module", model)
        line = {
            "epoch": self.epoch,
            "shape": list(batch[0].shape),
            "encoder": digest(inner.encoder.named_parameters()),
            "decoder": digest(inner.decoder.named_parameters()),
            "statistics": digest(inner.encoder.named_buffers()),
        }
        path = self.context.attempt.root / f"steps{os.environ.get('RANK', '0')}.jsonl"
        with path.open("a") as file:
            print(json.dumps(line), file=file)


open_task = TwoStageTask
