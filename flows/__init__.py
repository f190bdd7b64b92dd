"""Prefect flows: the order of the steps."""

if __name__ == "flows":  # the name that deployments of 0.1 use
    from penstock.old_roots import keep_old_names

    keep_old_names("flows", "score", "backfill")
