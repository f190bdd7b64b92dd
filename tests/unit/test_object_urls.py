"""URLs of objects, and what stands in them."""

import pytest

from penstock.errors import SettingsError
from penstock.object_stores import is_remote, list_files
from penstock.object_stores.listing import _matches
from penstock.object_urls import parse_url


@pytest.mark.parametrize("path", ["data/a.csv", "/data/a.csv", "C:\\data\\a.csv", "a:b/c.csv", "./s3:/x"])
def test_a_local_path_is_not_remote(path: str) -> None:
    assert not is_remote(path)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("s3://b/a b%20c#d+é?.csv", "a b%20c#d+é?.csv"),
        ("gs://b/x/y.parquet", "x/y.parquet"),
        ("az://b/x=1/y.parquet", "x=1/y.parquet"),
        ("https://host:8080/a%20b%23.csv", "a b#.csv"),
    ],
)
def test_a_url_is_taken_apart_and_put_together_again(url: str, key: str) -> None:
    location = parse_url(url)

    assert location.key == key
    assert str(location) == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://b//x", "an empty part"),
        ("https://h/a/%2e%2e/x", "one of dots"),
        ("gcs://b/x", "rite `gs://bucket"),
        ("abfss://b/x", "rite `az://bucket"),
        ("ftp://b/x", "rite one of `s3://`"),
        ("s3:///x", "names no bucket"),
        ("https://user:hunter2@host/x.csv", "contains a user or a password"),
        ("s3://AKIA:hunter2@bucket/x.csv", "contains a user or a password"),
        ("https://host/x.csv?X-Amz-Signature=hunter2", "may contain a secret"),
        ("https://host/*.csv", "does not list"),
    ],
)
def test_a_url_that_no_store_has_is_refused_without_showing_a_secret(url: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        list_files(url)

    assert said in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "pattern", "expected"),
    [
        ("a.csv", "*.csv", True),
        ("x/a.csv", "*.csv", False),
        ("x/a.csv", "**/*.csv", True),
        ("a.csv", "**/*.csv", True),
        ("x/y/a.csv", "x/**/a.csv", True),
        ("x/a.csv", "x/**/a.csv", True),
        ("x/.y/a.csv", "x/**/a.csv", False),
        ("x/y/.a.csv", "x/**", False),
        ("x/y/a.csv", "x/**", True),
        (".a.csv", "*.csv", False),
        (".a.csv", ".*.csv", True),
        ("A.csv", "a.csv", False),
        ("a[1].csv", "a[[]1].csv", True),
        ("a1.csv", "a[!1].csv", False),
    ],
)
def test_wildcards_mean_what_they_mean_in_local_paths(key: str, pattern: str, expected: bool) -> None:
    assert _matches(key.split("/"), pattern.split("/")) is expected
