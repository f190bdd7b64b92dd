"""The pages of the site that are made from the code: `python -m docs.generator` writes them."""
