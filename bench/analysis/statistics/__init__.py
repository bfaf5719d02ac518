"""Statistics under the verdicts: an estimate with its interval, its test, and the claim held against it.

Each module is pure functions on arrays. `reports/statistics/report.md` has what each interval covers in simulated
studies.
"""
