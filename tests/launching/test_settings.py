import re
from typing import Any

import pytest

from bench.errors import UsageError
from bench.launching.settings import LocalSettings, SlurmSettings, local_settings, slurm_settings


def test_defaults_are_those_of_the_configuration() -> None:
    from omegaconf import OmegaConf

    from bench.composition import choice

    for name, kind, check in (("bench", LocalSettings, local_settings), ("slurm", SlurmSettings, slurm_settings)):
        written = OmegaConf.to_container(choice("hydra/launcher", name))
        assert isinstance(written, dict)
        del written["_target_"]
        given = {str(key): tuple(value) if isinstance(value, list) else value for key, value in written.items()}
        assert check(given) == kind()
        assert set(given) == set(vars(kind()))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"workers": 0}, "hydra.launcher.workers=0: must be an integer ≥ 1, or auto"),
        ({"workers": True}, "hydra.launcher.workers=True: must be an integer ≥ 1, or auto"),
        ({"cell_seconds": float("nan")}, "hydra.launcher.cell_seconds=nan: must be a number of seconds > 0, or null"),
        ({"cell_seconds": "1h"}, "hydra.launcher.cell_seconds=1h: must be"),
        ({"isolate": 1}, "hydra.launcher.isolate=1: must be true or false"),
        ({"wokers": 2}, "unknown key of hydra.launcher 'wokers'; did you mean 'workers'?"),
        ({"partition": "gpu"}, "hydra.launcher.partition: jobs of a cluster have it; give hydra/launcher=slurm too"),
    ],
)
def test_what_a_local_launcher_cannot_be_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        local_settings(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"jobs": 0}, "hydra.launcher.jobs=0: must be an integer ≥ 1"),
        ({"gpus": -1}, "hydra.launcher.gpus=-1: must be an integer ≥ 0, or auto"),
        ({"memory_gib": 0}, "hydra.launcher.memory_gib=0: must be a number > 0, or null"),
        ({"fill_minutes": float("inf")}, "hydra.launcher.fill_minutes=inf: must be a number > 0"),
        ({"partiton": "gpu"}, "unknown key of hydra.launcher 'partiton'; did you mean 'partition'?"),
        # A line break would begin a line of the batch script.
        ({"account": "lab\n#SBATCH --uid=0"}, "hydra.launcher.account='lab\\n#SBATCH"),
        ({"setup": "module load cuda"}, "must be a list of lines"),
        ({"setup": ["a\nb"]}, "must be a list of lines"),
        ({"options": {"--begin": "now"}}, "must be long names of sbatch options without"),
        ({"options": {"begin": None}}, "must be long names of sbatch options without"),
        # The launcher finds its jobs by it.
        ({"options": {"job-name": "mine"}}, "not array, job-name, output"),
        ({"minutes": 1}, "hydra.launcher.stop_seconds=60: must be at most half of the 1 min that a job has"),
        ({"workers": 2}, "unknown key of hydra.launcher 'workers'"),
    ],
)
def test_what_the_slurm_launcher_cannot_be_told(given: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)) as error:
        slurm_settings(given)
    assert "\n" not in str(error.value)
