"""Temperatures and fans on Linux: `/sys/class/hwmon`."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from infrawatch.agent.readings import Reading, gauge

_LABELS = ("chip", "sensor")
_INPUT = re.compile(r"((?:temp|fan)\d+)_(input|max|crit|min|target)")
_NOT_IN_NAMES = re.compile("[^a-z0-9:_]")

_CHIP_NAME = gauge(
    "node_hwmon_chip_names", "Annotation metric for human-readable chip names", "chip", "chip_name"
)
_SENSOR_LABEL = gauge(
    "node_hwmon_sensor_label", "Label for given chip and sensor", *_LABELS, "label"
)
_KINDS = {
    **{
        ("temp", element): (
            gauge(
                f"node_hwmon_temp_{name}celsius",
                f"Hardware monitor for temperature ({element})",
                *_LABELS,
            ),
            0.001,
        )
        for element, name in (("input", ""), ("max", "max_"), ("crit", "crit_"))
    },
    **{
        ("fan", element): (
            gauge(
                f"node_hwmon_fan_{name}rpm",
                f"Hardware monitor for fan revolutions per minute ({element})",
                *_LABELS,
            ),
            1,
        )
        for element, name in (
            ("input", ""),
            ("min", "min_"),
            ("max", "max_"),
            ("target", "target_"),
        )
    },
}


def read_sensors(sys: Path) -> Iterator[Reading]:
    """Readings of the hardware monitors; most virtual machines have none."""
    root = sys / "class/hwmon"
    folders = sorted(root.iterdir()) if root.is_dir() else []
    chips = [_chip(folder) for folder in folders]
    often = Counter(chips)
    for folder, chip in zip(folders, chips, strict=True):
        # Two monitors of one device would share their names.
        unique = chip if often[chip] == 1 else f"{chip}_{folder.name}"
        with suppress(OSError):
            yield Reading(_CHIP_NAME, 1, (unique, _clean((folder / "name").read_text())))
        yield from _read_chip(folder, unique)


def _read_chip(folder: Path, chip: str) -> Iterator[Reading]:
    for path in folder.iterdir():
        if match := _INPUT.fullmatch(path.name):
            sensor, element = match.groups()
            metric = _KINDS.get((sensor.rstrip("0123456789"), element))
            # A driver answers with an error while a sensor sleeps or is not plugged in.
            with suppress(OSError):
                if metric:
                    yield Reading(metric[0], int(path.read_bytes()) * metric[1], (chip, sensor))
        elif path.name.endswith("_label"):
            with suppress(OSError):
                text = path.read_text(errors="replace").strip()
                sensor = path.name.removesuffix("_label")
                yield Reading(_SENSOR_LABEL, 1, (chip, sensor, text))


def _chip(folder: Path) -> str:
    """Name a monitor after its device, which is more stable than the number in `hwmon3`."""
    device = (folder / "device").resolve()
    if device.exists():
        return "_".join(filter(None, (_clean(device.parent.name), _clean(device.name))))
    with suppress(OSError):
        return _clean((folder / "name").read_text()) or folder.name
    return folder.name


def _clean(text: str) -> str:
    return _NOT_IN_NAMES.sub("_", text.strip().lower()).strip("_")
