"""Reports on runs: tables, figures and a page, made only from the records."""

from meta_lr.report.runs import Run, find_runs, read_run
from meta_lr.report.write import Report, write_report

__all__ = ["Report", "Run", "find_runs", "read_run", "write_report"]
