"""The thresholds of decisions: the numbers that `decide:` compares a score with."""

from collections.abc import Mapping

from penstock.spec.sql_tree import Node, serialize, walk


def find_thresholds(decide: Mapping[str, str], score: str) -> tuple[float, ...]:
    """Return the numbers that the decisions compare the score with, ascending.

    Args:
        decide: Expressions by column, as in the spec.
        score: The column of the score.
    """
    found = set[float]()
    for expression in decide.values():
        for node in walk(serialize(f"select ({expression})")):
            if node.get("class") == "COMPARISON":
                found |= _compared(node, score.casefold())
    return tuple(sorted(found))


def _compared(node: Node, score: str) -> set[float]:
    """Return the number of a comparison between it and the score."""
    sides = (node["left"], node["right"])
    names = [[str(name).casefold() for name in side.get("column_names", ())] for side in sides]
    if [score] not in names:
        return set()
    texts = [side["literal"]["text"] for side in sides if side.get("literal", {}).get("kind") == "NUMERIC"]
    return {float(text) for text in texts}
