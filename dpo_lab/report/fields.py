"""What a run can be filtered, sorted and ranked by."""

import math
from typing import Any

from dpo_lab.report.records import RunRecord


def fields_of(record: RunRecord) -> dict[str, Any]:
    """All that a `RunRecord` can be filtered by: config, last values of curves, then the fields of the run itself."""
    values = {name: record.last(name) for name in record.curves}
    return {
        **record.config,
        **{name: value for name, value in values.items() if math.isfinite(value)},
        "id": record.path.name,
        "name": record.path.parent.name,
        "path": str(record.path),
        "status": record.status,
        "sweep": record.info.get("sweep"),
        "step": record.last_step,
        "started": record.info.get("started"),
        "reason": "; ".join(record.faults) or record.info.get("exit_reason"),
    }
