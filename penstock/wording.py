"""Write a number: together with its noun, or with all its digits."""

from decimal import Decimal


def plural(number: int, noun: str, many: str = "") -> str:
    """Write `1 interval`, `1,200 intervals`. `many` is for a noun whose plural is more than an added `s`."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"


def write_decimal(value: Decimal) -> str:
    """Write a decimal as text that is equal for equal numbers: no exponent, no zeros at the end."""
    text = format(value, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text
