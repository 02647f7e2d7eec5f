"""Runs a small program under the check, as a cell; the line to be named carries the mark."""

from __future__ import annotations

import linecache
import textwrap

import torch

import gradnb

PREAMBLE = """\
import copy, torch
import torch.nn as nn
import torch.nn.functional as F
torch.manual_seed(0)
x, y = torch.randn(8, 4), torch.randn(8, 2)
"""


def check(body, name):
    """Run a program under the check; its error, if any, is what the user would see after the report."""
    source = PREAMBLE + textwrap.dedent(body)
    filename = f"<ipython-input-7-{name}>"
    linecache.cache[filename] = (len(source), None, source.splitlines(True), filename)
    names: dict = {"__name__": "__main__"}
    error = None
    manager = gradnb.check(namespace=names)
    manager.cells = {filename: 7}
    try:
        with manager as report:
            exec(compile(source, filename, "exec"), names)
    except Exception as raised:
        error = raised
    assert manager.problem is None, manager.problem
    marked = [i for i, line in enumerate(source.splitlines(), 1) if "# <- here" in line]
    return report, marked, error


def said(report):
    """What a report says, for the message of a failing test."""
    return [(f.cause, f.severity, str(f.location), f.title) for f in report.findings]


def assert_named(cause, body, name):
    """The first finding has this cause and points at a marked line, and every finding is about it."""
    report, marked, error = check(body, name)
    assert report.findings, f"nothing found; {error!r}, {report.notes}"
    first = report.findings[0]
    assert (first.cause, first.location.line) in [(cause, line) for line in marked], said(report)
    assert first.location.cell == 7 and first.location.file is None
    assert {f.cause for f in report.findings if f.severity != "info"} == {cause}, said(report)
    return first


def assert_silent(body, name):
    """No finding but remarks, no error, and gradients are left switched on."""
    report, _, error = check(body, name)
    assert error is None, error
    alarms = [one for one in said(report) if one[1] != "info"]
    assert not alarms, alarms
    assert not [note for note in report.notes if "failed" in note], report.notes
    assert torch.is_grad_enabled()
