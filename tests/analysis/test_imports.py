import subprocess
import sys

PROGRAM = """
import importlib, pkgutil, sys
import bench.analysis
names = [module.name for module in pkgutil.walk_packages(bench.analysis.__path__, "bench.analysis.")]
for name in names:
    importlib.import_module(name)
assert "bench.analysis.statistics.verdicts" in names
print(*sorted({"torch", "scipy.stats", "scipy.optimize", "statsmodels"} & sys.modules.keys()))
"""


def test_analysis_imports_neither_torch_nor_the_heavy_parts_of_scipy() -> None:
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
