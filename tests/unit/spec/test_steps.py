"""Steps of inference and decisions in a spec: what is taken, in which order, and how what is wrong is told."""

import pytest

from penstock.errors import SpecError
from penstock.spec.pipeline import Pipeline
from penstock.spec.yaml_file import parse_pipeline
from tests.shop import SPEC

GATED = """
models:
  - {name: deep, model: risk-deep@champion, when: screen_score > 0.2, inputs: {first: screen_score}}
  - {name: screen, model: risk-screen@champion}
"""
PLAIN = "model: card-risk@champion"
QUERY = "features: select p.payment_id, p.amount, count(*) as visits from payments p group by all"


def read(models: str, *more: str) -> Pipeline:
    text = SPEC.replace(PLAIN, models)
    return parse_pipeline("\n".join([text, *more]).encode(), "x.yaml")


def problems(models: str, *more: str) -> str:
    with pytest.raises(SpecError) as caught:
        read(models, *more)
    return "\n".join(str(p) for p in caught.value.problems)


def test_a_step_runs_after_those_whose_outputs_it_takes_and_else_as_written() -> None:
    pipeline = read(GATED + "  - {name: other, model: a@1}\n  - {name: stack, model: b@1, inputs: [deep_score]}")

    assert [step.name for step in pipeline.steps] == ["screen", "deep", "other", "stack"]


def test_every_output_of_a_step_bears_its_name_and_that_of_a_single_model_keeps_its_own() -> None:
    gated, plain = read(GATED), read(PLAIN)

    assert gated.name_output(gated.steps[0], "score") == "screen_score"
    assert plain.name_output(plain.steps[0], "score") == "score"


def test_the_longest_step_name_owns_an_output() -> None:
    pipeline = read(
        "models:\n  - {name: last, model: a@1, inputs: [screen_two_score]}\n"
        "  - {name: screen_two, model: b@1}\n  - {name: screen, model: c@1, inputs: [last_score]}"
    )

    assert [step.name for step in pipeline.steps] == ["screen_two", "last", "screen"]


def test_inputs_may_be_a_list_of_columns() -> None:
    step = read("models:\n  - {name: a, model: m@1}\n  - {name: b, model: m@2, inputs: [a_score]}").steps[1]

    assert step.inputs == {"a_score": "a_score"}


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (
            "models:\n  - {name: a, model: m@1, inputs: [b_score]}\n  - {name: b, model: m@1, when: a_score > 1}",
            "line 18: `models`: these steps wait for each other's outputs: `a` → `b` → `a`",
        ),
        ("models:\n  - {name: a, model: m@1, when: a_score > 1}", "each other's outputs: `a` → `a`"),
        ("models:\n  - {name: a, model: m@1}\n  - {name: a, model: m@2}", "two steps are named `a`"),
        ("models:\n  - {name: load, model: m@1}", "cannot be named `load`"),
        ("models:\n  - {name: a, model: m@1, whem: x}", "`models.0.whem`: unknown key. Did you mean `when`?"),
        ("models:\n  - {name: a, model: m}", "name@alias or name@version"),
        ("models: []", "either `model`, or `models`"),
        ("", "either `model`, or `models`"),
        (f"{PLAIN}\nmodels: [{{name: a, model: m@1}}]", "either `model`, or `models`"),
    ],
)
def test_steps_that_cannot_run_are_told(models: str, told: str) -> None:
    assert told in problems(models)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (
            "inputs: [screem_score]",
            "step `b` needs `screem_score`, not found in the features or in an earlier step's outputs. Did",
        ),
        ("inputs: {x: amont}", "step `b` needs `amont`"),
        ("when: amont > 3", "step `b` needs `amont`"),
    ],
)
def test_an_input_that_nothing_can_give_is_told_with_the_nearest_output(step: str, told: str) -> None:
    models = "models:\n  - {name: screen, model: m@1}\n  - {name: b, model: m@1, " + step + "}"

    assert told in problems(models, QUERY)


@pytest.mark.parametrize(
    "query",
    [
        "select * from payments",
        "select payment_id, p.* from payments p",
        "from payments",
        "select * from payments pivot (sum(amount) for country in ('DE') group by payment_id)",
        "select columns('a.*') from payments",
    ],
)
def test_a_query_that_does_not_name_its_columns_leaves_inputs_to_the_check(query: str) -> None:
    assert read("models: [{name: b, model: m@1, inputs: [amont]}]", f"features: {query}").steps


@pytest.mark.parametrize(
    ("when", "told"),
    [
        ("screen_score >", "is no SQL expression: syntax error"),
        ("screen_score > (select max(amount) from payments)", "contains a query inside"),
        ("exists (from payments)", "contains a query inside"),
        ("screen_score > avg(screen_score) over ()", "contains a window"),
        ("screen_score > max(screen_score)", "calls `max`, which needs many rows"),
        ("screen_score > random()", "calls `random`, which changes with each call"),
        ("created_at > now()", "calls `now`, which changes with each call"),
        ("created_at > current_date", "which changes with each call"),
        ("1) from payments where (1 = 1", "more than one expression"),
        ("screen_score > 1; drop table payments", "is no SQL expression"),
        ("screen_score > 1, amount > 2", "more than one expression"),
        ("screen_score > ?", "contains a parameter"),
        ("count(*) > 1", "needs many rows"),
        ("unnest([1, 2]) > 1", "needs many rows"),
        ("columns('x') > 1", "contains a star"),
        ("#1 > 1", "contains a column by its place"),
    ],
)
def test_a_condition_is_one_expression_over_one_row(when: str, told: str) -> None:
    models = f'models:\n  - {{name: screen, model: m@1}}\n  - {{name: b, model: m@1, when: "{when}"}}'

    found = problems(models)

    assert told in found
    assert "line 20: `models.1.when`" in found


def test_a_comment_and_a_text_with_brackets_and_names_are_no_harm() -> None:
    step = read(
        "models:\n  - {name: a, model: m@1}\n"
        "  - {name: b, model: m@1, when: \"country = ') a_score --' -- and a_score\"}"
    ).steps[1]

    assert step.reads == {"country"}


def test_decisions_may_take_outputs_features_and_what_was_decided_before() -> None:
    pipeline = read(
        GATED,
        "decide:",
        "  score: coalesce(deep_score, screen_score)",
        "  decision: case when score >= 0.9 then 'block' when amount > 100 then 'review' else 'pass' end",
    )

    assert list(pipeline.decide) == ["score", "decision"]


def test_a_single_model_may_decide_too() -> None:
    assert read(PLAIN, "decide: {blocked: score >= 0.9}").decide == {"blocked": "score >= 0.9"}


@pytest.mark.parametrize(
    ("models", "decide", "told"),
    [
        (PLAIN, "{score: amount}", "`score` is an output of a model"),
        (GATED, "{deep_score: amount}", "`deep_score` is an output of a model"),
        (PLAIN, "{a: b + 1, b: score}", "`a` takes `b`, which is not decided before it"),
        (PLAIN, "{a: a + 1}", "`a` takes `a`, which is not decided before it"),
        (PLAIN, "{a: score, A: score}", "`A` is decided twice"),
        (PLAIN, "{amount: score}", "`decide` makes `amount`, which the key or `keep` has already"),
        (PLAIN, "{payment_id: score}", "`decide` makes `payment_id`"),
        (PLAIN, "{a: sum(score)}", "`decide.a`: `sum(score)` calls `sum`"),
        (
            PLAIN,
            "{a: score + scor}",
            "`a` needs `scor`, not found in the features or in an earlier step's outputs. Did you mean",
        ),
        (GATED, "{a: dep_score}", "Did you mean `deep_score`?"),
    ],
)
def test_a_decision_that_cannot_be_made_is_told(models: str, decide: str, told: str) -> None:
    text = problems(models, f"decide: {decide}", QUERY.replace("p.amount", "p.amount, p.country"))

    assert told in text


def test_steps_that_cannot_be_read_bring_no_further_problem_of_the_decisions() -> None:
    told = problems(GATED.replace("screen_score > 0.2", "false"), "decide: {score: deep_score}")

    assert "`models.0.when`" in told
    assert "decide" not in told


def test_a_decision_makes_nothing_of_a_private_column() -> None:
    told = problems(GATED, "decide: {copy: upper(login)}", "private: {Login: hash}")

    assert "`decide` makes `copy` of `login`, which is private" in told


def test_steps_and_decisions_are_part_of_the_fingerprint() -> None:
    specs = [
        read(PLAIN),
        read(GATED),
        read(GATED.replace("0.2", "0.3")),
        read(GATED.replace("{first:", "{second:")),
        read(GATED, "decide: {a: deep_score}"),
    ]

    assert len({spec.fingerprint for spec in specs}) == len(specs)
