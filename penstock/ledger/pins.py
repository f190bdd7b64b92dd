"""Every step's model as a run keeps it: JSON by step, in the order of the steps. Nothing where there is one model."""

import json
from dataclasses import asdict

from penstock.run_types import ModelPin, Pins


def write_pins(pins: Pins) -> str | None:
    return json.dumps({step: asdict(pin) for step, pin in pins.items()}) if pins else None


def read_pins(text: str | None) -> dict[str, ModelPin]:
    return {step: ModelPin(**pin) for step, pin in json.loads(text or "{}").items()}
