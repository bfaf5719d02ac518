"""The digits as `scripts/grid_cost` writes them: 8-bit images in an npz file."""

import numpy as np
import torch
from benchopt import BaseDataset


class Dataset(BaseDataset):
    """Standardised images and labels of each split, resident in memory."""

    name = "digits"
    parameters = {"path": ["images.npz"]}  # noqa: RUF012

    def get_data(self):
        arrays = np.load(self.path)
        found = {}
        for split in ("train", "val", "test"):
            images = torch.from_numpy(arrays[split]).float().div_(255).sub_(0.1307).div_(0.3081)
            found[split] = images, torch.from_numpy(arrays[f"{split}_labels"]).long()
        return found
