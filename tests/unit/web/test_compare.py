"""What the page about two scorings says."""

from penstock.monitor.estimates import Estimate
from penstock.report.blocks import Paragraph, Table
from penstock.report.labelled_rows import LabelledAgreement
from penstock.web.pages.compare import _lay_labelled


def test_a_metric_of_few_labels_has_no_interval() -> None:
    few, many = {"auc": Estimate(0.5, None, None)}, {"auc": Estimate(0.75, 0.5, 1)}

    section = _lay_labelled(LabelledAgreement("score", 1000, 4, few, many), "UTC")

    [said, table] = section.blocks
    assert isinstance(said, Paragraph)
    assert said.line == ("`score` by the labels of the same rows, 4 of 1,000 rows",)
    assert isinstance(table, Table)
    assert table.rows == [["auc", "0.5000", "too few rows", "0.7500", "0.5000 to 1.0000"]]
