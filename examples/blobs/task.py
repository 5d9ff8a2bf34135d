"""What `blobs` trains and tests; the runtime does the rest."""

import numpy as np
from torch.nn.functional import mse_loss

from experiments.runtime.seeds import numpy_generator
from experiments.runtime.task import Selection, Task, Term

from .model import locator
from .tally import Offsets


class Blobs:
    def __init__(self, num_images, noise, *stream):
        self.num_images, self.noise, self.stream = num_images, noise, stream

    def __len__(self):
        return self.num_images

    def __getitem__(self, index):
        rng = numpy_generator(*self.stream, index)
        centre = rng.uniform(2, 14, size=2)
        squares = (np.indices((16, 16)) - centre[:, None, None]) ** 2
        image = np.exp(-squares.sum(0) / 8) + self.noise * rng.standard_normal((16, 16))
        return image.astype(np.float32), centre.astype(np.float32)


class BlobTask(Task):
    selection = Selection("offset", "min")

    def build_model(self, device):
        return locator(self.options.width)

    def train_data(self, epoch):
        return Blobs(512, self.options.noise, self.options.runtime.seed, "train", epoch)

    def forward(self, model, batch):
        return model(batch[0])

    def loss(self, output, batch):
        return [Term(mse_loss(output, batch[1]), "items")]

    def eval_data(self, name):
        return Blobs(101, self.options.noise, 0, name)

    def tally(self, name):
        return Offsets(101)

    def predict(self, model, item, device):
        return model(item[0].to(device)[None])[0].cpu().numpy()


open_task = BlobTask
