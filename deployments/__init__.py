"""Where flows run: pipeline specs, the local Prefect server, deployments on a long-lived one."""
