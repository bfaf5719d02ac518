"""A trial as one would write it by hand for speed: tensors in memory, `index_select`, a fused optimizer."""

import torch
from benchopt import BaseSolver
from torch import nn


class Solver(BaseSolver):
    """Train a multilayer perceptron for a number of epochs."""

    name = "resident"
    parameters = {  # noqa: RUF012
        "optimizer": ["SGD"],
        "momentum": [0.0],
        "batch_size": [64],
        "lr": [1e-3],
        "trial": [0],
        "epochs": [3],
    }

    def set_objective(self, train):
        self.inputs, self.labels = train

    def run(self, _):
        torch.set_num_threads(1)
        torch.manual_seed(self.trial)
        self.model = nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
        settings = {"momentum": self.momentum} if self.momentum else {}
        update = getattr(torch.optim, self.optimizer)(self.model.parameters(), lr=self.lr, fused=True, **settings)
        loss_function = nn.CrossEntropyLoss()
        for _ in range(self.epochs):
            for batch in torch.randperm(len(self.labels)).split(self.batch_size):
                update.zero_grad()
                inputs, labels = self.inputs.index_select(0, batch), self.labels.index_select(0, batch)
                loss_function(self.model(inputs), labels).backward()
                update.step()

    def get_result(self):
        return {"model": self.model}
