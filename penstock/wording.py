"""Write a number together with its noun."""


def plural(number: int, noun: str, many: str = "") -> str:
    """Write `1 interval`, `1,200 intervals`. `many` is for a noun whose plural is more than an added `s`."""
    return f"{number:,} {noun if number == 1 else many or noun + 's'}"
