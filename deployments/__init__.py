"""Where flows run: pipeline specs, the local Prefect server, deployments on a long-lived one."""

if __name__ == "deployments":  # the name that deployments and work pools of 0.1 use
    from penstock.old_roots import keep_old_names

    keep_old_names("deployments", "pull")
