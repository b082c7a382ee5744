"""Sanity checks: unimodal modes pass them, the leaky protocol fails them."""

import json


def test_unimodal_modes_pass_every_sanity_check(results, checks):
    rows = checks["multimodal"]
    assert {(row["check"], row["mode"]) for row in rows} == {
        ("K1", "dual"),
        ("K2", "dual"),
        ("K2", "rerank"),
        ("K3", "dual"),
        ("K4", "all"),
        ("K5", "all"),
    }
    assert all(row["passed"] for row in rows), rows
    folder = results / "models" / "multimodal" / "0"
    assert json.loads((folder / "sanity_checks.json").read_text())
    missingness = json.loads((folder / "missingness.json").read_text())
    assert set(missingness) == {"icdr", "sdrg"}
    assert 0 <= missingness["icdr"]["auroc_any_retinopathy"] <= 1


def test_leaky_protocol_fails_the_first_three_sanity_checks(checks):
    """It retrieves pairs that were wrong from the start, and noise."""
    rows = checks["fused"]
    failed = {row["check"]: row["passed"] for row in rows}
    assert failed == {"K1": False, "K2": False, "K3": False}, rows
