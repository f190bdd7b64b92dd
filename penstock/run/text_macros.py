"""SQL macros that turn text into features. Each features query and each expression of a step has them.

They are built on functions whose results do not change between versions and machines, so that a value is the same in
training and in scoring. Their parameters have long names, because DuckDB would take a column of the same name for one.
"""

import duckdb

_WORDS = r"""
create macro penstock_words(penstock_text) as
    ' ' || array_to_string(regexp_extract_all(
        replace(replace(lower(nfc_normalize(cast(penstock_text as varchar))), 'ß', 'ss'), 'ς', 'σ'),
        '[\p{L}\p{M}\p{N}]+'
    ), '  ') || ' '
"""
"""The words of a text in lower case, each between blanks of its own, so that no two matches share one."""
_TERM = """
create macro penstock_term(penstock_text) as
    case
        when coalesce(trim(penstock_words(penstock_text)), '') <> '' then penstock_words(penstock_text)
        else error('a term of contains_any and term_counts needs a letter or a digit')
    end
"""
_CONTAINS_ANY = """
create macro contains_any(penstock_text, penstock_terms) as
    list_transform([penstock_words(penstock_text)], lambda penstock_all_words:
        case when penstock_all_words is not null and penstock_terms is not null then
            len(list_filter(penstock_terms, lambda penstock_one:
                contains(penstock_all_words, penstock_term(penstock_one))
            )) > 0
        end
    )[1]
"""
_TERM_COUNTS = """
create macro term_counts(penstock_text, penstock_terms) as
    list_transform([penstock_words(penstock_text)], lambda penstock_all_words:
        case when penstock_all_words is not null and penstock_terms is not null then
            map_from_entries(list_transform(penstock_terms, lambda penstock_one: struct_pack(
                term := penstock_one,
                number := (
                    length(penstock_all_words) - length(replace(penstock_all_words, penstock_term(penstock_one), ''))
                ) // length(penstock_term(penstock_one))
            )))
        end
    )[1]
"""
_HASH_BUCKET = """
create macro hash_bucket(penstock_value, penstock_buckets) as
    case
        when penstock_value is null or penstock_buckets is null then null
        when typeof(penstock_value) in ('DOUBLE', 'FLOAT')
            then error('hash_bucket takes no floating point number, because its text is not fixed')
        when penstock_buckets < 1 then error('hash_bucket needs one bucket or more')
        else cast('0x' || substr(md5(cast(penstock_value as varchar)), 1, 15) as bigint) % penstock_buckets
    end
"""
_MACROS = (_WORDS, _TERM, _CONTAINS_ANY, _TERM_COUNTS, _HASH_BUCKET)


def create_text_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Create `contains_any`, `term_counts` and `hash_bucket`."""
    for macro in _MACROS:
        connection.execute(macro)
