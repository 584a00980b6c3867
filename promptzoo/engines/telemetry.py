"""Keeps the converters from sending usage statistics.

OpenVINO's model converter and NNCF report to Google Analytics unless a consent file says no: the opt-in dialog is
switched off in their code (``init_ovc_telemetry`` and ``NNCFTelemetry`` pass ``enable_opt_in_dialog=False``), and
without a file ``openvino_telemetry`` takes the missing answer as yes. A program beside patient data must not do that
unasked.
"""
from __future__ import annotations

from typing import Any

from promptzoo.core.optional import available, require


def silence_telemetry() -> None:
    """Make ``openvino_telemetry`` treat an unanswered question as no; an explicit yes of the user stands.

    Call it before converting with OpenVINO or importing NNCF. Safe to call repeatedly and without the package.
    """
    if not available("openvino_telemetry"):
        return
    module = require("openvino_telemetry.utils.opt_in_checker", "telemetry control")
    checker, results = module.OptInChecker, module.ConsentCheckResult
    original = checker.check
    if getattr(original, "promptzoo_silenced", False):
        return

    def check(self: Any, enable_opt_in_dialog: bool, disable_in_ci: bool = False) -> Any:
        answer = original(self, enable_opt_in_dialog, disable_in_ci)
        return results.DECLINED if answer == results.NO_FILE else answer

    check.promptzoo_silenced = True  # type: ignore[attr-defined]
    checker.check = check
