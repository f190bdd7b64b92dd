"""Make the deployments on a Prefect server what the specs say."""
