"""`penstock sandbox`: the sandboxes of pipelines, and their end."""
