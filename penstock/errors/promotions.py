"""Promotions that cannot be judged, and aliases that moved meanwhile."""

from dataclasses import dataclass

from penstock.errors.base import TerminalError, UsageError


@dataclass(eq=False)
class NoPromotion(UsageError):
    """No pipeline of the project says when the model's alias moves.

    Cause: no spec of the pipelines folder has `promotion:` with this model; or the name is wrong.
    Remedy: add `promotion:` to a pipeline that scores with the model. See docs/promotion.md.
    """

    model: str
    known: tuple[str, ...]

    def message(self) -> str:
        known = ", ".join(f"`{name}`" for name in self.known) or "none"
        return (
            f"no pipeline has a `promotion:` for the model `{self.model}`. Models with one: {known}. Add `promotion:` "
            "to a pipeline that scores with the model."
        )


@dataclass(eq=False)
class PromotionsDiffer(UsageError):
    """Two pipelines that share a model say different things about its alias.

    Cause: their `promotion:` differ in alias, challenger, approval, answer_within or schedule. One flow serves both.
    Remedy: write the same in both. Only `require` may differ.
    """

    model: str
    pipelines: tuple[str, ...]
    """Two of them."""
    what: str

    def message(self) -> str:
        one, other = self.pipelines[0], self.pipelines[-1]
        return (
            f"`{one}` and `{other}` promote the same model `{self.model}`, and their `promotion` differs in "
            f"`{self.what}`. Write the same in both files. Only `require` may differ."
        )


@dataclass(eq=False)
class AliasMoved(TerminalError):
    """An alias names another version than the evidence of a promotion was about.

    Cause: somebody moved the alias with `penstock models promote` after the evidence was gathered.
    Remedy: start the flow `promote` again, which gathers evidence about the present version.
    """

    model: str
    alias: str
    expected: str
    present: str

    def message(self) -> str:
        now = f"{self.model}/{self.present}" if self.present else "nothing"
        return (
            f"the alias `{self.model}@{self.alias}` names {now}, and the evidence is about "
            f"{self.model}/{self.expected}. Start the flow `promote/{self.model}` again to gather new evidence."
        )
