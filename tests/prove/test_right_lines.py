"""What is proven: the line at fault, in programs that have one fault each."""

from __future__ import annotations

import pytest
from in_process import Shell

import gradnb
from gradnb import diagnoses
from gradnb.diagnoses._program import program as body_of
from gradnb.prove.claim import REPAIRS


@pytest.mark.parametrize("cause", sorted(REPAIRS))
def test_the_faulty_program_of_a_cause_proves_it(shell: Shell, cause: str) -> None:
    source, lines = body_of(diagnoses._modules()[cause], "bad")
    shell.run("%%gradcheck --prove\n" + source)
    report = gradnb.last_report()
    assert report is not None
    finding = next(f for f in report.findings if f.cause == cause)
    assert finding.location is not None and finding.location.line - 1 in lines
    assert finding.proof is not None and finding.proof["proven"] is True, finding.proof
    assert finding.proof["text"].startswith("proven: ")


def test_a_healthy_cell_has_nothing_to_prove(shell: Shell) -> None:
    source, _ = body_of(diagnoses._modules()["detach"], "good")
    ran = shell.run("%%gradcheck --prove\n" + source)
    assert ran.error is None and "proven" not in ran.out
    assert gradnb.last_report().to_dict()["verdict"] == "ok"  # type: ignore[union-attr]


def test_a_fault_in_a_function_of_an_earlier_cell_is_proven_there(shell: Shell) -> None:
    shell.run("import torch\nfrom torch import nn\n\ndef pack(a, b):\n    return torch.FloatTensor([float(a), float(b)])\n")
    shell.run(
        "%%gradcheck --prove\n"
        "torch.manual_seed(0)\nmodel, head = nn.Linear(3, 2), nn.Linear(2, 1)\n"
        "optimizer = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=0.1)\n"
        "for _ in range(3):\n"
        "    optimizer.zero_grad()\n"
        "    a, b = model(torch.randn(3))\n"
        "    loss = head(pack(a, b)).pow(2).sum()\n"
        "    loss.backward()\n"
        "    optimizer.step()\n"
    )
    finding = gradnb.last_report().findings[0]  # type: ignore[union-attr]
    assert finding.location is not None and finding.location.line == 5
    assert finding.proof is not None and finding.proof["proven"] is True, finding.proof


def test_the_proof_stands_in_the_text_the_page_and_the_data_and_only_when_it_was_asked_for(shell: Shell) -> None:
    source, _ = body_of(diagnoses._modules()["detach"], "bad")
    ran = shell.run("%%gradcheck --prove\n" + source)
    report = gradnb.last_report()
    assert report is not None
    assert "= proven: with this line repaired, all 4 parameters receive a gradient (norm 0." in ran.out
    assert "<strong>✓ Proven:</strong> with this line repaired" in report._repr_html_()
    assert report.to_dict()["findings"][0]["proof"]["proven"] is True and report.to_dict()["schema"] == 1
    ran = shell.run("%%gradcheck\n" + source)
    assert "proven" not in ran.out and "proof" not in gradnb.last_report().to_dict()["findings"][0]  # type: ignore[union-attr]


def test_the_other_lines_of_a_finding_are_tried_with_it_where_its_own_does_not_do(shell: Shell) -> None:
    shell.run(
        "%%gradcheck --prove\n"
        "import torch\n"
        "torch.manual_seed(0)\nvalues, head = torch.nn.Linear(4, 3), torch.nn.Linear(3, 1)\n"
        "optimizer = torch.optim.SGD([*values.parameters(), *head.parameters()], lr=0.1)\n"
        "def predict(x):\n"
        "    with torch.no_grad():\n"
        "        return values(x).numpy()\n"
        "for _ in range(3):\n"
        "    optimizer.zero_grad()\n"
        "    head(torch.FloatTensor(predict(torch.randn(8, 4)))).pow(2).mean().backward()\n"
        "    optimizer.step()\n"
    )
    finding = gradnb.last_report().findings[0]  # type: ignore[union-attr]
    assert finding.cause == "numpy" and finding.location is not None and finding.location.line == 8
    assert finding.proof is not None and finding.proof["proven"] is True
    assert "with line 8 and line 7 repaired" in finding.proof["text"] and "with line 7 alone nothing" in finding.proof["text"]


def test_a_cut_that_another_one_follows_is_proven_together_with_it(program) -> None:  # type: ignore[no-untyped-def]
    code = program(
        "import torch\n"
        "model = torch.nn.Linear(2, 1)\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "for _ in range(2):\n"
        "    with torch.no_grad():  # off\n"
        "        out = model(torch.ones(4, 2)).numpy()  # out\n"
        "    loss = torch.from_numpy(out).sum().requires_grad_()\n"
        "    loss.backward()\n"
        "    optimizer.step()\n"
    )
    names = ("weight", "bias")
    off = code.claim("no-grad", "off").location
    alone, together = code.prove(code.claim("numpy", "out", names), code.claim("numpy", "out", names, series=(off,)))
    assert alone.proven is not True
    assert together.proven is True and f"line {off.line} alone nothing comes back" in together.text
