"""Make the deployments on a Prefect server match the specs."""
