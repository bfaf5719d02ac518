"""The grid of `scripts/grid_cost` as a benchmark of benchopt: accuracy of a multilayer perceptron on 5 000 digits."""

import torch
from benchopt import BaseObjective


class Objective(BaseObjective):
    """Validation and test accuracy of what a solver trained."""

    name = "accuracy"
    sampling_strategy = "run_once"

    def set_data(self, train, val, test):
        self.splits = {"train": train, "val": val, "test": test}

    def get_objective(self):
        return {"train": self.splits["train"]}

    def evaluate_result(self, model):
        with torch.no_grad():
            right = {
                name: (model(inputs).argmax(1) == labels).double().mean().item()
                for name, (inputs, labels) in self.splits.items()
                if name != "train"
            }
        return {"value": 1 - right["val"], **right}

    def get_one_result(self):
        return {"model": torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))}
