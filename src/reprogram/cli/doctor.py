"""doctor."""

from __future__ import annotations

from typing import Any

from reprogram.cli.output import result

__all__ = ["doctor"]


def doctor(*, json: bool = False) -> None:
    """Check environment, devices, caches and extras; each line ok or missing, with what mends it."""
    from reprogram.cli.checkup import check_up

    findings = check_up()
    lines = [_line(f) for f in findings]
    result({"checks": findings}, "\n".join(lines), json)


def _line(finding: dict[str, Any]) -> str:
    mend = f"   {finding['mend']}" if finding["mend"] else ""
    return f"  {finding['state']:<8} {finding['name']:<18} {finding['found']}{mend}"
