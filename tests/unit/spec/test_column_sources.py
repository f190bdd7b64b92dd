"""Which sources the values of each feature come from."""

import pytest

from penstock.spec.column_sources import find_column_sources

SOURCES = {"payments": ["id", "amount", "customer_id"], "customers": ["customer_id", "tier"], "visits": []}
BOTH = ("payments", "customers")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select id, amount * 2 as twice from payments", {"id": ("payments",), "twice": ("payments",)}),
        ("select id, 1 as one, amount as A from payments", {"id": ("payments",), "a": ("payments",)}),
        (
            "select p.id, tier, amount / length(tier) as x from payments p left join customers c using (customer_id)",
            {"id": ("payments",), "tier": ("customers",), "x": BOTH},
        ),
        (
            "select p.*, c.tier from payments p join customers c on c.customer_id = p.customer_id",
            {"id": ("payments",), "amount": ("payments",), "customer_id": ("payments",), "tier": ("customers",)},
        ),
        ("select * exclude (amount) from payments", {"id": ("payments",), "customer_id": ("payments",)}),
        (
            "select * replace (tier as amount) from payments join customers using (customer_id)",
            {"id": ("payments",), "amount": ("customers",), "customer_id": BOTH, "tier": ("customers",)},
        ),
        (
            "with seen as (select id, count(*) as visits from visits group by id) "
            "select p.id, coalesce(s.visits, 0) as visits from payments p left join seen s on s.id = p.id",
            {"id": ("payments",), "visits": ("visits",)},
        ),
        (
            "select id, (select max(tier) from customers c where c.customer_id = p.customer_id) tier from payments p",
            {"id": ("payments",), "tier": ("customers",)},
        ),
        ("select id, amount as a, a + 1 as b from payments", dict.fromkeys(("id", "a", "b"), ("payments",))),
        ("select id, pages from payments join visits using (id)", {"id": ("payments",), "pages": ("visits",)}),
        (
            "select id, count(*) over (partition by id) as n, count(*) over () as m from payments",
            dict.fromkeys(("id", "n", "m"), ("payments",)),
        ),
        (
            "select id, amount from payments union all select customer_id, tier from customers",
            {"id": BOTH, "amount": BOTH},
        ),
        ("select id, list_transform([1], x -> x + amount) as l from payments", {"id": ("payments",)}),
        ("select id, columns('a.*') from payments", {}),
        ("select * from (pivot payments on amount)", {}),
        ("select id, x from payments, range(3) r(x)", {}),
        ("not a query", {}),
    ],
)
def test_the_sources_of_features_follow_the_query(query: str, expected: dict[str, tuple[str, ...]]) -> None:
    assert find_column_sources(query, SOURCES) == expected


def test_without_a_query_the_features_are_the_primary_source() -> None:
    assert find_column_sources(None, SOURCES) == dict.fromkeys(("id", "amount", "customer_id"), ("payments",))
